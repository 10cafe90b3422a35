//! AWS Signature Version 4 in the Authorization header.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quorate::env::UnixMillis;
use ring::hmac;

use crate::content::sha256_hex;

/// What AWS leaves unescaped: letters, digits, `-`, `_`, `.`, `~`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What AWS leaves unescaped in a path: the same, and the slash.
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');

/// Says that the payload's hash is not part of the signature.
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: String,
    /// The region that requests are signed for.
    pub region: String,
}

/// What is signed.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// GET, PUT, …
    pub method: &'a str,
    /// The path, not escaped, with its leading slash.
    pub path: &'a str,
    /// Query parameters, not escaped.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers to sign, lower-case names, `host` among them; without `x-amz-date` and
    /// `x-amz-content-sha256`.
    pub headers: BTreeMap<&'a str, String>,
    /// The payload's SHA-256, or [`UNSIGNED_PAYLOAD`].
    pub payload: &'a str,
}

impl Request<'_> {
    /// The path and query as they go into the request line.
    #[must_use]
    pub fn target(&self) -> String {
        let path = escape_path(self.path);
        let query = self.canonical_query();
        if query.is_empty() { path } else { format!("{path}?{query}") }
    }

    fn canonical_query(&self) -> String {
        let mut pairs: Vec<(String, String)> =
            self.query.iter().map(|(name, value)| (escape(name), escape(value))).collect();
        pairs.sort();
        let pairs: Vec<String> =
            pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    }
}

/// The headers that a signature adds to a request, in name order.
#[must_use]
pub fn sign(
    credentials: &Credentials,
    request: &Request<'_>,
    now: UnixMillis,
) -> BTreeMap<&'static str, String> {
    let stamp = stamp(now);
    let date = &stamp[..8];
    let mut headers = request.headers.clone();
    headers.insert("x-amz-content-sha256", request.payload.to_owned());
    headers.insert("x-amz-date", stamp.clone());
    let names: Vec<&str> = headers.keys().copied().collect();
    let names = names.join(";");
    let lines: String =
        headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method,
        escape_path(request.path),
        request.canonical_query(),
        request.payload
    );
    let region = &credentials.region;
    let scope = format!("{date}/{region}/s3/aws4_request");
    let to_sign =
        format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let secret = format!("AWS4{}", credentials.secret_access_key);
    let key = [date, region.as_str(), "s3", "aws4_request"]
        .iter()
        .fold(secret.into_bytes(), |key, part| keyed_hash(&key, part.as_bytes()));
    let signature = hex::encode(keyed_hash(&key, to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.access_key_id
    );
    BTreeMap::from([
        ("authorization", authorization),
        ("x-amz-content-sha256", request.payload.to_owned()),
        ("x-amz-date", stamp),
    ])
}

fn keyed_hash(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, bytes).as_ref().to_vec()
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

fn escape_path(path: &str) -> String {
    utf8_percent_encode(path, ESCAPED_IN_PATH).to_string()
}

/// `20130524T000000Z`.
fn stamp(now: UnixMillis) -> String {
    let seconds = i64::try_from(now.0 / 1_000).unwrap_or_default();
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second()
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate::env::UnixMillis;

    use super::{Credentials, Request, sign};

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    /// 2013-05-24 00:00:00 UTC, the moment of AWS's examples.
    const MOMENT: UnixMillis = UnixMillis(1_369_353_600_000);

    fn signature(request: &Request<'_>) -> String {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            region: "us-east-1".to_owned(),
        };
        let headers = sign(&credentials, request, MOMENT);
        headers["authorization"].rsplit('=').next().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_get_of_the_aws_documentation_is_signed_as_there() {
        let request = Request {
            method: "GET",
            path: "/test.txt",
            query: &[],
            headers: BTreeMap::from([
                ("host", "examplebucket.s3.amazonaws.com".to_owned()),
                ("range", "bytes=0-9".to_owned()),
            ]),
            payload: EMPTY,
        };

        assert_eq!(
            signature(&request),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn the_put_of_the_aws_documentation_is_signed_as_there() {
        let request = Request {
            method: "PUT",
            path: "/test$file.text",
            query: &[],
            headers: BTreeMap::from([
                ("date", "Fri, 24 May 2013 00:00:00 GMT".to_owned()),
                ("host", "examplebucket.s3.amazonaws.com".to_owned()),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY".to_owned()),
            ]),
            payload: "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        };

        assert_eq!(
            signature(&request),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn the_list_of_the_aws_documentation_is_signed_as_there() {
        let request = Request {
            method: "GET",
            path: "/",
            query: &[("prefix", "J"), ("max-keys", "2")],
            headers: BTreeMap::from([("host", "examplebucket.s3.amazonaws.com".to_owned())]),
            payload: EMPTY,
        };

        assert_eq!(
            signature(&request),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
        assert_eq!(request.target(), "/?max-keys=2&prefix=J");
    }
}
