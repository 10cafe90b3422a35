//! A request's head, taken apart once: host and path to bucket and key, the query, the headers.

use std::ops::Deref;

use http::{HeaderName, HeaderValue, request::Parts};

use crate::auth::Head;
use crate::types::{InvalidKey, Key};

use super::error::{Code, S3Error};

/// Query parameters of version 4 that are no headers.
const PRESIGNING: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Request {
    /// What signatures cover of it.
    pub(crate) head: Head,
    /// The bucket named by path or virtual host.
    pub(crate) bucket: Option<String>,
    /// The key, not checked yet.
    pub(crate) key: Option<String>,
}

impl Request {
    /// Takes `parts` apart; `root_domains` are the suffixes of virtual hosts.
    ///
    /// # Errors
    /// InvalidURI if the path or query is not decodable.
    pub(crate) fn parse(parts: Parts, root_domains: &[String]) -> Result<Self, S3Error> {
        let head = Head::parse(parts, |host| bucket_of_host(host, root_domains))?;
        let rest = head.path.strip_prefix('/').unwrap_or(&head.path);
        let (bucket, key) = match &head.host_bucket {
            Some(bucket) => (bucket.clone(), rest),
            None => match rest.split_once('/') {
                Some((bucket, key)) => (bucket.to_owned(), key),
                None => (rest.to_owned(), ""),
            },
        };
        let filled = |text: String| Some(text).filter(|text| !text.is_empty());
        let key = filled(key.to_owned());
        Ok(Self { bucket: filled(bucket), key, head })
    }

    /// Takes headers that a presigned URL carries in its query for what they are: SDKs move
    /// `x-amz-acl`, `x-amz-meta-*` and their like there, signed with the rest. Checksums stay
    /// behind: JavaScript's SDK signs the one of an empty body into every URL.
    pub(crate) fn adopt_presigned_headers(&mut self) {
        let Head { query, headers, .. } = &mut self.head;
        for (name, value) in &query.pairs {
            let name = name.to_ascii_lowercase();
            let adopted = name.starts_with("x-amz-")
                && !PRESIGNING.contains(&name.as_str())
                && !name.contains("checksum")
                && !headers.contains_key(&name);
            let value = value.as_deref().unwrap_or_default();
            if let (true, Ok(name), Ok(value)) =
                (adopted, HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes()))
            {
                headers.insert(name, value);
            }
        }
    }

    /// The bucket's name.
    ///
    /// # Errors
    /// InvalidBucketName if the request names none.
    pub(crate) fn bucket(&self) -> Result<&str, S3Error> {
        self.bucket.as_deref().ok_or_else(|| Code::InvalidBucketName.into())
    }

    /// The object's key.
    ///
    /// # Errors
    /// KeyTooLongError, InvalidURI.
    pub(crate) fn key(&self) -> Result<Key, S3Error> {
        to_key(self.key.as_deref().unwrap_or_default())
    }

    /// A number in the query.
    ///
    /// # Errors
    /// InvalidArgument unless it lies within 0 to 2,147,483,647.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, S3Error> {
        let Some(text) = self.query.get(name).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let number = text.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok());
        number.map(Some).ok_or_else(|| {
            S3Error::argument(
                name,
                text,
                format!("Argument {name} must be an integer between 0 and 2147483647"),
            )
        })
    }
}

impl Deref for Request {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

/// A key from its text.
///
/// # Errors
/// KeyTooLongError, InvalidURI if it is empty.
pub(crate) fn to_key(text: &str) -> Result<Key, S3Error> {
    Key::new(text.to_owned()).map_err(|error| match error {
        InvalidKey::TooLong { length } => S3Error::new(Code::KeyTooLong)
            .detail("Size", length.to_string())
            .detail("MaxSizeAllowed", "1024"),
        InvalidKey::Empty | InvalidKey::NotUtf8 => Code::InvalidUri.into(),
    })
}

fn bucket_of_host(host: &str, root_domains: &[String]) -> Option<String> {
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let name = name.to_ascii_lowercase();
    let bucket = |root: &String| {
        let root = root.trim_start_matches('.').to_ascii_lowercase();
        let bucket = name.strip_suffix(&root)?.strip_suffix('.')?;
        Some(bucket.to_owned()).filter(|bucket| !bucket.is_empty())
    };
    // Of domains within one another the longest is meant: it leaves the shortest name.
    root_domains.iter().filter_map(bucket).min_by_key(String::len)
}

#[cfg(test)]
mod tests {
    use super::Request;

    fn request(uri: &str, host: &str) -> Request {
        let (parts, ()) =
            http::Request::builder().uri(uri).header("host", host).body(()).unwrap().into_parts();
        Request::parse(parts, &["s3.example.org".to_owned()]).unwrap()
    }

    #[test]
    fn path_and_virtual_host_name_the_same_object() {
        for (uri, host) in [
            ("/photos/a%20b//c", "127.0.0.1:9000"),
            ("/photos/a%20b//c", "s3.example.org"),
            ("/a%20b//c", "photos.S3.example.org:9000"),
        ] {
            let request = request(uri, host);
            assert_eq!(request.bucket.as_deref(), Some("photos"), "{uri} {host}");
            assert_eq!(request.key.as_deref(), Some("a b//c"), "{uri} {host}");
        }
    }

    #[test]
    fn a_bucket_with_or_without_slash_has_no_key() {
        assert_eq!(request("/photos", "h").key, None);
        assert_eq!(request("/photos/", "h").key, None);
        assert_eq!(request("/photos//", "h").key.as_deref(), Some("/"));
        assert_eq!(request("/", "b.s3.example.org").bucket.as_deref(), Some("b"));
        assert_eq!(request("/", "h").bucket, None);
    }

    #[test]
    fn plus_is_a_space_in_the_query_and_itself_in_the_path() {
        let request = request("/b/a+b?prefix=a+b&delimiter=%2B&uploads", "h");

        assert_eq!(request.key.as_deref(), Some("a+b"));
        assert_eq!(request.query.get("prefix"), Some("a b"));
        assert_eq!(request.query.get("delimiter"), Some("+"));
        assert_eq!(request.query.get("uploads"), Some(""));
    }
}
