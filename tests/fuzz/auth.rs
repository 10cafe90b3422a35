//! Signatures, in headers and in presigned URLs, before anybody is known.

use std::sync::Arc;

use super::credential_scope::Claim;
use super::verify::{Authenticator, Signatory};
use super::{Head, dates, percent};
use crate::fuzz::{Target, request_head};

/// AWS's example user.
struct Example;

impl Signatory for Example {
    fn access_key_id(&self) -> &str {
        "AKIAIOSFODNN7EXAMPLE"
    }

    fn secret_access_key(&self) -> &str {
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    }
}

/// AWS's examples of both forms, and one of version 2.
const HEADS: [&str; 4] = [
    "GET /test.txt\nhost: examplebucket.s3.amazonaws.com\nrange: bytes=0-9\n\
     x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
     x-amz-date: 20130524T000000Z\nauthorization: AWS4-HMAC-SHA256 \
     Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
     SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
     Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F\
     20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&\
     X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c26595\
     7d157751f604d404\nhost: examplebucket.s3.amazonaws.com",
    "GET /test.txt?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Expires=1369353600&Signature=vjbyPxybdZaN\
     mGa%2ByT272YEAiv4%3D\nhost: examplebucket.s3.amazonaws.com",
    "PUT /examplebucket/chunkObject.txt\nhost: s3.amazonaws.com\ncontent-encoding: aws-chunked\n\
     x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\nx-amz-date: 20130524T000000Z\n\
     x-amz-decoded-content-length: 66560\ncontent-length: 66824\nauthorization: AWS4-HMAC-SHA256 \
     Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=\
     content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
     x-amz-decoded-content-length;x-amz-storage-class,Signature=4f232c4386841ef735655705268965c4\
     4a0e4690baa4adea153f7db9fa80a0a9",
];

const WORDS: [&str; 22] = [
    "host;",
    "%2F",
    "%",
    "%ff",
    "%00",
    "+",
    "&",
    "=",
    "/",
    "\n",
    ",",
    "Credential=",
    "SignedHeaders=",
    "Signature=",
    "X-Amz-Expires=",
    "604800",
    "-1",
    "9223372036854775807",
    "99991231T235959Z",
    "00000101T000000Z",
    "date: Fri, 31 Dec 9999 23:59:59 GMT\n",
    "é",
];

#[test]
fn signed_heads() {
    let now = dates::parse_basic("20130524T000000Z").unwrap();
    let find = |id: &str| (id == Example.access_key_id()).then(|| Arc::new(Example));
    let signatures = Authenticator::new("us-east-1");
    Target::text("signed heads", HEADS.map(str::to_owned), WORDS).run(|input| {
        let Some(parts) = request_head(input) else { return "no request".to_owned() };
        let head = match Head::parse(parts, |_| Some("examplebucket".to_owned())) {
            Ok(head) => head,
            Err(error) => return format!("{:?}", error.code),
        };
        match signatures.authenticate(&head, now, find) {
            Ok(_) => "taken".to_owned(),
            Err(error) => format!("{:?} {}", error.code, error.message),
        }
    });
}

#[test]
fn credentials_and_dates() {
    let corpus = [
        "AWS4-HMAC-SHA256 Credential=AK/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, \
         Signature=00",
        "20130524T000000Z",
        "Fri, 24 May 2013 00:00:00 GMT",
        "Friday, 24-May-13 00:00:00 GMT",
        "a%20b+c%2Fd",
    ];
    Target::text("credentials and dates", corpus.map(str::to_owned), WORDS).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        let claim = Claim::of_header(text).is_ok();
        let basic = dates::parse_basic(text).map(|seconds| dates::basic(seconds).is_some());
        let http = dates::parse_http(text).map(|seconds| dates::basic(seconds).is_some());
        let decoded = percent::decode(text);
        if let Ok(decoded) = &decoded {
            assert_eq!(
                percent::decode(&percent::encode_path(decoded)).as_ref().ok(),
                Some(decoded)
            );
        }
        format!("{claim} {basic:?} {http:?} {}", decoded.is_ok())
    });
}
