//! From method, bucket, key and sub-resource to a route (pure).

use super::error::{Code, S3Error};
use super::request::Request;

/// Every route; each is an operation, but the last two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    GetBucketSetting,
    DeleteBucketSetting,
    PutAcl,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    ListMultipartUploads,
    DeleteObjects,
    PutObject,
    CopyObject,
    GetObject,
    HeadObject,
    DeleteObject,
    GetObjectAttributes,
    GetObjectSetting,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    ListParts,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    Unserved,
    NotAllowed,
}

/// Query parameters that choose another operation, whether this release serves it or not.
const SUB_RESOURCES: [&str; 43] = [
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "annotation",
    "append",
    "attributes",
    "cors",
    "delete",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "location",
    "logging",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "update",
    "uploadId",
    "uploads",
    "versioning",
    "versions",
    "website",
    "writeOffsetBytes",
];

/// Settings of a bucket that can be read.
pub(crate) const BUCKET_SETTINGS: [&str; 18] = [
    "accelerate",
    "acl",
    "cors",
    "encryption",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "tagging",
    "versioning",
    "website",
];
/// Settings of a bucket that can be deleted; none is ever there.
const DELETABLE: [&str; 9] = [
    "cors",
    "encryption",
    "lifecycle",
    "ownershipControls",
    "policy",
    "publicAccessBlock",
    "replication",
    "tagging",
    "website",
];
/// Settings of an object that can be read.
const OBJECT_SETTINGS: [&str; 4] = ["acl", "legal-hold", "retention", "tagging"];

/// The sub-resource that `request` names; `Err` if it names several, or one that S3 does not
/// know: a bare unknown word is no harmless parameter.
fn sub_resource(request: &Request) -> Result<Option<&str>, ()> {
    let mut found = None;
    for (name, value) in &request.query.pairs {
        let listed = SUB_RESOURCES.contains(&name.as_str());
        if !listed
            && (value.is_some() || name.starts_with("X-Amz-") || HARMLESS.contains(&name.as_str()))
        {
            continue;
        }
        if !listed || found.replace(name.as_str()).is_some_and(|other| other != name) {
            return Err(());
        }
    }
    Ok(found)
}

/// Parameters that clients send without a value and mean nothing by.
const HARMLESS: [&str; 12] = [
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-keys",
    "prefix",
    "start-after",
    "upload-id-marker",
    "version-id-marker",
];

/// The route of `request`.
pub(crate) fn route(request: &Request) -> Route {
    let Ok(sub) = sub_resource(request) else { return Route::Unserved };
    let method = request.method.as_str();
    match (&request.bucket, &request.key) {
        (None, _) if method == "GET" && sub.is_none() => Route::ListBuckets,
        (None, _) => Route::NotAllowed,
        (Some(_), None) => bucket_route(request, method, sub),
        (Some(_), Some(_)) => object_route(request, method, sub),
    }
}

fn bucket_route(request: &Request, method: &str, sub: Option<&str>) -> Route {
    match (method, sub) {
        ("GET", None) if request.query.get("list-type") == Some("2") => Route::ListObjectsV2,
        ("GET", None) => Route::ListObjects,
        ("GET", Some("uploads")) => Route::ListMultipartUploads,
        ("GET", Some("versions")) => Route::ListObjectVersions,
        ("GET", Some(sub)) if BUCKET_SETTINGS.contains(&sub) => Route::GetBucketSetting,
        ("HEAD", None) => Route::HeadBucket,
        ("PUT", None) => Route::CreateBucket,
        ("PUT", Some("acl")) => Route::PutAcl,
        ("DELETE", None) => Route::DeleteBucket,
        ("DELETE", Some(sub)) if DELETABLE.contains(&sub) => Route::DeleteBucketSetting,
        ("POST", Some("delete")) => Route::DeleteObjects,
        ("GET" | "HEAD" | "PUT" | "DELETE" | "POST", _) => Route::Unserved,
        _ => Route::NotAllowed,
    }
}

fn object_route(request: &Request, method: &str, sub: Option<&str>) -> Route {
    let copies = request.headers.contains_key("x-amz-copy-source");
    match (method, sub) {
        ("GET", None) => Route::GetObject,
        ("GET", Some("uploadId")) => Route::ListParts,
        ("GET", Some("attributes")) => Route::GetObjectAttributes,
        ("GET", Some(sub)) if OBJECT_SETTINGS.contains(&sub) => Route::GetObjectSetting,
        ("HEAD", None) => Route::HeadObject,
        ("PUT", None) if request.query.has("partNumber") => Route::Unserved,
        ("PUT", None) if copies => Route::CopyObject,
        ("PUT", None) => Route::PutObject,
        ("PUT", Some("uploadId")) if copies => Route::UploadPartCopy,
        ("PUT", Some("uploadId")) => Route::UploadPart,
        ("PUT", Some("acl")) => Route::PutAcl,
        ("DELETE", None) => Route::DeleteObject,
        ("DELETE", Some("uploadId")) => Route::AbortMultipartUpload,
        ("POST", Some("uploads")) => Route::CreateMultipartUpload,
        ("POST", Some("uploadId")) => Route::CompleteMultipartUpload,
        ("POST", None) => Route::NotAllowed,
        ("GET" | "HEAD" | "PUT" | "DELETE" | "POST", _) => Route::Unserved,
        _ => Route::NotAllowed,
    }
}

/// 501 for a sub-resource that is not served, by its name.
pub(crate) fn not_served(request: &Request) -> S3Error {
    let names: Vec<&str> = request.query.pairs.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join("&");
    let message = format!(
        "{} with the query '{names}' implies functionality that this release does not serve.",
        request.method
    );
    S3Error::with(Code::NotImplemented, message)
}

#[cfg(test)]
mod tests {
    use super::{Route, route};
    use crate::s3::request::Request;

    fn routed(method: &str, uri: &str) -> Route {
        let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
        route(&Request::parse(request.into_parts().0, &[]).unwrap())
    }

    #[test]
    fn each_request_finds_its_operation() {
        for (method, uri, expected) in [
            ("GET", "/", Route::ListBuckets),
            ("GET", "/?x-id=ListBuckets", Route::ListBuckets),
            ("PUT", "/b", Route::CreateBucket),
            ("PUT", "/b/", Route::CreateBucket),
            ("GET", "/b?list-type=2&prefix", Route::ListObjectsV2),
            ("GET", "/b/?prefix=a", Route::ListObjects),
            ("GET", "/b?location", Route::GetBucketSetting),
            ("GET", "/b?uploads=", Route::ListMultipartUploads),
            ("POST", "/b?delete=", Route::DeleteObjects),
            ("PUT", "/b/k?x-id=PutObject", Route::PutObject),
            ("PUT", "/b/k?partNumber=1&uploadId=u", Route::UploadPart),
            ("GET", "/b/k?partNumber=1", Route::GetObject),
            ("HEAD", "/b/k?versionId=null", Route::HeadObject),
            ("POST", "/b/k?uploads", Route::CreateMultipartUpload),
            ("POST", "/b/k?uploadId=u", Route::CompleteMultipartUpload),
            ("PUT", "/b?versioning", Route::Unserved),
            ("PUT", "/b/k?tagging", Route::Unserved),
            ("PUT", "/b/k?brand-new-thing", Route::Unserved),
            ("GET", "/b?acl&policy", Route::Unserved),
            ("POST", "/b", Route::Unserved),
            ("POST", "/b/k", Route::NotAllowed),
            ("PATCH", "/b/k", Route::NotAllowed),
            ("DELETE", "/", Route::NotAllowed),
        ] {
            assert_eq!(routed(method, uri), expected, "{method} {uri}");
        }
    }
}
