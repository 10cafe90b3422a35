//! What every operation is given.

use std::sync::Arc;

use crate::auth::Authenticator;
use crate::catalog::{BucketRecord, Catalog, Credential};
use crate::env::{Clock, Entropy};
use crate::replication::Level;

use super::authorize::Access;
use super::error::S3Error;
use super::reply::RequestIds;
use super::request::Request;

/// What all requests share.
pub(crate) struct Shared {
    /// Buckets and objects.
    pub(crate) catalog: Catalog,
    /// The region that this cluster says it is.
    pub(crate) region: String,
    /// Suffixes of virtual hosts.
    pub(crate) root_domains: Vec<String>,
    /// The level of buckets that are created without one.
    pub(crate) default_level: Level,
    /// Verifies signatures.
    pub(crate) authenticator: Authenticator,
    /// Time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Randomness, for request ids.
    pub(crate) entropy: Arc<dyn Entropy>,
}

/// One authenticated and authorised request, without its body. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Call {
    /// What all requests share.
    pub(crate) shared: Arc<Shared>,
    /// The request's head.
    pub(crate) request: Arc<Request>,
    /// Who asks.
    pub(crate) caller: Arc<Credential>,
    /// What was authorised.
    pub(crate) access: Access,
    /// Its ids.
    pub(crate) ids: Arc<RequestIds>,
}

impl Call {
    /// The catalogue.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// The bucket that the caller was authorised for.
    ///
    /// # Errors
    /// AccessDenied if it was authorised for none.
    pub(crate) fn bucket(&self) -> Result<&Arc<BucketRecord>, S3Error> {
        self.access.bucket()
    }
}
