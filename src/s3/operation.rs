//! Which operation a request asks for, parsed whole before any handler runs.

use http::Method;

use crate::replication::Level;

use super::authorize::Reach;
use super::body::{Content, Unread};
use super::call::Call;
use super::error::{Code, S3Error};
use super::headers;
use super::ops;
use super::reply::Reply;
use super::request::Request;
use super::router::{self, Route};

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($module:ident), $reach:ident;)*) => {
        /// A parsed request.
        #[derive(Debug)]
        pub(crate) enum Operation {
            $($(#[$doc])* $name(ops::$module::$name),)*
        }

        impl Operation {
            /// The operation's name in S3's API reference, for metrics and logs.
            pub(crate) const fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name),)* }
            }

            /// What it touches.
            pub(crate) const fn reach(&self) -> Reach {
                match self { $(Self::$name(_) => Reach::$reach,)* }
            }

            /// Acts, and renders the answer.
            ///
            /// # Errors
            /// The error to answer with.
            pub(crate) async fn run(self, call: Call, body: Unread) -> Result<Reply, S3Error> {
                // Boxed, so that a small request does not pay for the largest operation's state.
                match self { $(Self::$name(operation) => Box::pin(operation.run(call, body)).await,)* }
            }

            fn parse_route(route: Route, request: &Request) -> Result<Self, S3Error> {
                match route {
                    $(Route::$name => ops::$module::$name::parse(request).map(Self::$name),)*
                    Route::Unserved => Err(router::not_served(request)),
                    Route::NotAllowed => Err(Code::MethodNotAllowed.into()),
                }
            }
        }
    };
}

operations! {
    /// GET /
    ListBuckets(list_buckets), Account;
    /// PUT /bucket
    CreateBucket(create_bucket), Account;
    /// HEAD /bucket
    HeadBucket(head_bucket), Bucket;
    /// DELETE /bucket
    DeleteBucket(delete_bucket), Bucket;
    /// GET /bucket?location and its like
    GetBucketSetting(bucket_settings), Bucket;
    /// DELETE /bucket?cors and its like
    DeleteBucketSetting(delete_setting), Bucket;
    /// PUT ?acl
    PutAcl(put_acl), Bucket;
    /// GET /bucket
    ListObjects(list_objects), Bucket;
    /// GET /bucket?list-type=2
    ListObjectsV2(list_objects_v2), Bucket;
    /// GET /bucket?versions
    ListObjectVersions(list_versions), Bucket;
    /// GET /bucket?uploads
    ListMultipartUploads(list_uploads), Bucket;
    /// POST /bucket?delete
    DeleteObjects(delete_objects), Bucket;
    /// PUT /bucket/key
    PutObject(put_object), Bucket;
    /// PUT /bucket/key with a source
    CopyObject(copy_object), Bucket;
    /// GET /bucket/key
    GetObject(get_object), Bucket;
    /// HEAD /bucket/key
    HeadObject(head_object), Bucket;
    /// DELETE /bucket/key
    DeleteObject(delete_object), Bucket;
    /// GET /bucket/key?attributes
    GetObjectAttributes(get_attributes), Bucket;
    /// GET /bucket/key?acl and its like
    GetObjectSetting(object_settings), Bucket;
    /// POST /bucket/key?uploads
    CreateMultipartUpload(create_upload), Bucket;
    /// PUT /bucket/key?partNumber&uploadId
    UploadPart(upload_part), Bucket;
    /// PUT /bucket/key?partNumber&uploadId with a source
    UploadPartCopy(upload_part_copy), Bucket;
    /// GET /bucket/key?uploadId
    ListParts(list_parts), Bucket;
    /// POST /bucket/key?uploadId
    CompleteMultipartUpload(complete_upload), Bucket;
    /// DELETE /bucket/key?uploadId
    AbortMultipartUpload(abort_upload), Bucket;
}

impl Operation {
    /// The operation that `request` asks for.
    ///
    /// # Errors
    /// NotImplemented for what this release does not serve, and the errors of each operation's
    /// own parameters.
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let route = router::route(request);
        let operation = Self::parse_route(route, request)?;
        headers::refuse_unserved(request)?;
        if !matches!(operation, Self::GetObject(_) | Self::HeadObject(_)) {
            headers::refuse_conditions(request)?;
        }
        if !operation.has_level() && request.headers.contains_key(headers::LEVEL_HEADER) {
            return Err(S3Error::header_not_served(headers::LEVEL_HEADER));
        }
        let creates = matches!(operation, Self::CreateBucket(_));
        if !creates && request.headers.contains_key(headers::COPIES_HEADER) {
            return Err(S3Error::header_not_served(headers::COPIES_HEADER));
        }
        Ok(operation)
    }

    /// Whether it reads or writes rows at a consistency level, or chooses a bucket's.
    const fn has_level(&self) -> bool {
        !matches!(
            self,
            Self::ListBuckets(_)
                | Self::HeadBucket(_)
                | Self::DeleteBucket(_)
                | Self::GetBucketSetting(_)
                | Self::DeleteBucketSetting(_)
                | Self::PutAcl(_)
        )
    }

    /// The level that the request asks for instead of its bucket's.
    ///
    /// # Errors
    /// InvalidArgument for what is no level.
    pub(crate) fn asked_level(&self, request: &Request) -> Result<Option<Level>, S3Error> {
        match self {
            Self::CreateBucket(_) => Ok(None),
            _ => headers::level(&request.headers),
        }
    }

    /// The level that the request is served at, if it has one.
    pub(crate) fn served_level(&self, call: &Call) -> Option<Level> {
        call.bucket().ok().filter(|_| self.has_level()).map(|bucket| bucket.level)
    }

    /// The bucket that a copy reads.
    pub(crate) fn copy_source(&self) -> Option<&str> {
        match self {
            Self::CopyObject(copy) => Some(&copy.source.bucket),
            Self::UploadPartCopy(copy) => Some(&copy.source.bucket),
            _ => None,
        }
    }

    /// What it takes the body for.
    pub(crate) const fn content(&self) -> Content {
        match self {
            Self::PutObject(_) | Self::UploadPart(_) => Content::Bytes,
            Self::CompleteMultipartUpload(_) => Content::Completion,
            _ => Content::Document,
        }
    }
}

/// Whether the request is a browser's question about CORS.
pub(crate) fn is_preflight(request: &Request) -> bool {
    request.method == Method::OPTIONS
}

/// The answer to such a question: no bucket has a CORS configuration in this release.
pub(crate) fn preflight(request: &Request) -> S3Error {
    if request.headers.contains_key("origin") {
        return Code::AccessForbidden.into();
    }
    S3Error::with(Code::BadRequest, "Insufficient information. Origin request header needed.")
}
