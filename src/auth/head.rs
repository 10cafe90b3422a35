//! What a signature covers of a request: method, path, query, headers and host, taken apart once.

use http::{HeaderMap, Method, header, request::Parts};

use super::error::{AuthCode, AuthError};
use super::percent;

/// The decoded query, in the order sent.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// Names and values; `None` where there was no `=`.
    pub(crate) pairs: Vec<(String, Option<String>)>,
}

impl Query {
    fn parse(raw: &str) -> Result<Self, AuthError> {
        let pair = |text: &str| match text.split_once('=') {
            Some((name, value)) => {
                Ok((percent::decode_query(name)?, Some(percent::decode_query(value)?)))
            }
            None => Ok((percent::decode_query(text)?, None)),
        };
        let pairs = raw.split('&').filter(|text| !text.is_empty()).map(pair);
        Ok(Self { pairs: pairs.collect::<Result<_, AuthError>>()? })
    }

    /// The value of that parameter, empty if it has none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(other, _)| other == name)?;
        Some(value.as_deref().unwrap_or_default())
    }

    /// Whether the parameter is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(other, _)| other == name)
    }
}

/// A request's head.
#[derive(Debug)]
pub(crate) struct Head {
    /// GET, PUT, …
    pub(crate) method: Method,
    /// The decoded path, for signatures and error bodies.
    pub(crate) path: String,
    /// The query.
    pub(crate) query: Query,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The host as the client named it, with port.
    pub(crate) host: String,
    /// The bucket that the host names, if the front that was asked knows such hosts: version 2
    /// signs it before the path.
    pub(crate) host_bucket: Option<String>,
}

impl Head {
    /// Takes `parts` apart; `bucket_of_host` finds the bucket that a host names.
    ///
    /// # Errors
    /// InvalidURI if the path or query is not decodable.
    pub(crate) fn parse(
        parts: Parts,
        bucket_of_host: impl FnOnce(&str) -> Option<String>,
    ) -> Result<Self, AuthError> {
        let host = match parts.headers.get(header::HOST) {
            Some(host) => host.to_str().map_err(|_| AuthCode::InvalidUri)?.to_owned(),
            None => parts.uri.authority().map(ToString::to_string).unwrap_or_default(),
        };
        let path = percent::decode(parts.uri.path())?;
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let host_bucket = bucket_of_host(&host);
        Ok(Self { method: parts.method, path, query, headers: parts.headers, host, host_bucket })
    }

    /// The header as text; a value that is no visible ASCII counts as absent.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
