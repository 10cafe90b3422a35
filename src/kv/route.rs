//! From method and path to an operation (pure). The document lists the same routes; a test
//! compares them.

use http::Method;

use super::error::{Kind, KvError};

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// A key's values.
    Get,
    /// The same, without body.
    Head,
    /// Write a value.
    Put,
    /// Delete a key.
    Delete,
    /// A page of keys.
    Scan,
    /// The API's document.
    Document,
}

/// Where every path begins.
pub(super) const BASE: &str = "/kv/v1/";
/// The path of the document.
pub(super) const DOCUMENT: &str = "/kv/v1/openapi.json";

/// Every route: method, path as the document writes it, operation.
#[cfg(test)]
pub(super) const ROUTES: [(&str, &str, Operation); 6] = [
    ("get", "/kv/v1/{bucket}/{key}", Operation::Get),
    ("head", "/kv/v1/{bucket}/{key}", Operation::Head),
    ("put", "/kv/v1/{bucket}/{key}", Operation::Put),
    ("delete", "/kv/v1/{bucket}/{key}", Operation::Delete),
    ("get", "/kv/v1/{bucket}", Operation::Scan),
    ("get", DOCUMENT, Operation::Document),
];

impl Operation {
    /// Its name in metrics, and in the document.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Scan => "scan",
            Self::Document => "document",
        }
    }

    /// The query parameters that it takes.
    pub(super) const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Get | Self::Head => &["level", "r"],
            Self::Put => &["level", "w"],
            // A deletion without a context reads first.
            Self::Delete => &["level", "r", "w"],
            Self::Scan => {
                &["level", "r", "prefix", "from", "after", "delimiter", "limit", "token", "values"]
            }
            Self::Document => &[],
        }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// What is asked.
    pub(super) operation: Operation,
    /// The bucket.
    pub(super) bucket: String,
    /// The key, all that follows the bucket; empty for scans.
    pub(super) key: String,
}

/// The route of a request for the decoded `path`.
///
/// # Errors
/// A path or method that the API does not have.
pub(super) fn route(method: &Method, path: &str) -> Result<Route, KvError> {
    let rest = path.strip_prefix(BASE).filter(|rest| !rest.is_empty()).ok_or_else(|| {
        let message = format!("there is no {path}: paths are {BASE}BUCKET and {BASE}BUCKET/KEY");
        KvError::new(Kind::NoSuchPath, message)
    })?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let operation = match (method.as_str(), key.is_empty()) {
        ("GET", true) if path == DOCUMENT => Operation::Document,
        ("GET", true) => Operation::Scan,
        ("GET", false) => Operation::Get,
        ("HEAD", false) => Operation::Head,
        ("PUT", false) => Operation::Put,
        ("DELETE", false) => Operation::Delete,
        (method, _) => {
            let message = match key.is_empty() {
                true => format!(
                    "{method} needs a key; buckets are created and deleted through S3 or \
                     'quorate bucket'"
                ),
                false => format!("a key takes GET, HEAD, PUT and DELETE, not {method}"),
            };
            return Err(KvError::new(Kind::MethodNotAllowed, message));
        }
    };
    Ok(Route { operation, bucket: bucket.to_owned(), key: key.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{Operation, Route, route};
    use crate::kv::error::Kind;
    use http::Method;

    fn check(method: &Method, path: &str, operation: Operation, bucket: &str, key: &str) {
        let expected = Route { operation, bucket: bucket.into(), key: key.into() };
        assert_eq!(route(method, path).unwrap(), expected, "{method} {path}");
    }

    #[test]
    fn everything_after_the_bucket_is_the_key() {
        check(&Method::GET, "/kv/v1/b/a/b//c", Operation::Get, "b", "a/b//c");
        check(&Method::PUT, "/kv/v1/b//", Operation::Put, "b", "/");
        check(&Method::GET, "/kv/v1/b", Operation::Scan, "b", "");
        check(&Method::GET, "/kv/v1/b/", Operation::Scan, "b", "");
        check(&Method::GET, "/kv/v1/openapi.json/", Operation::Scan, "openapi.json", "");
    }

    #[test]
    fn what_the_api_does_not_have_is_refused_by_kind() {
        for (method, path, kind) in [
            (Method::GET, "/", Kind::NoSuchPath),
            (Method::GET, "/kv/v1", Kind::NoSuchPath),
            (Method::GET, "/kv/v2/b/k", Kind::NoSuchPath),
            (Method::PUT, "/kv/v1/b", Kind::MethodNotAllowed),
            (Method::POST, "/kv/v1/b/k", Kind::MethodNotAllowed),
        ] {
            assert_eq!(route(&method, path).unwrap_err().kind, kind, "{method} {path}");
        }
    }
}
