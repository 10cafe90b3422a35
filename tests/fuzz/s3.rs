//! Requests of S3 clients: heads, documents, ranges and conditions, tokens, framed bodies.

use http::HeaderMap;

use super::operation::{self, Operation};
use super::request::Request;
use super::{conditions, range, xml};
use crate::auth::Payload;
use crate::catalog::ObjectHead;
use crate::env::UnixMillis;
use crate::fuzz::{Target, request_head};
use crate::s3::body::{Content, Promise};
use crate::types::Key;

const HEADS: [&str; 16] = [
    "GET /?max-buckets=10&prefix=a\nhost: s3.example.org",
    "PUT /bucket\nhost: s3.example.org\nx-amz-bucket-region: us-east-1\nx-quorate-copies: 3",
    "GET /bucket?list-type=2&prefix=a%2F&delimiter=%2F&max-keys=100&start-after=b&fetch-owner=true\n\
     host: s3.example.org",
    "GET /bucket?marker=x&encoding-type=url\nhost: s3.example.org",
    "GET /bucket?versions&key-marker=a&version-id-marker=null\nhost: s3.example.org",
    "GET /bucket?uploads&key-marker=a&upload-id-marker=0123\nhost: s3.example.org",
    "PUT /bucket/key\nhost: s3.example.org\ncontent-length: 5\ncontent-md5: \
     1B2M2Y8AsgTpgAmY7PhCfg==\nx-amz-meta-a: b\ncontent-type: text/plain\nx-quorate-level: quorum",
    "PUT /key\nhost: bucket.s3.example.org\ncontent-length: 5\nx-amz-checksum-crc32: AAAAAA==\n\
     if-none-match: *",
    "GET /bucket/key?response-content-type=text%2Fplain&partNumber=1&versionId=null\n\
     host: s3.example.org\nrange: bytes=0-9\nif-match: \"etag\"\nif-modified-since: Fri, 24 May 2013 \
     00:00:00 GMT",
    "PUT /bucket/key\nhost: s3.example.org\nx-amz-copy-source: /other/a%20key?versionId=null\n\
     x-amz-metadata-directive: REPLACE\nx-amz-copy-source-if-match: x",
    "POST /bucket/key?uploads\nhost: s3.example.org\nx-amz-checksum-algorithm: SHA256\n\
     x-amz-checksum-type: COMPOSITE",
    "PUT /bucket/key?partNumber=10000&uploadId=00112233445566778899aabbccddeeff\n\
     host: s3.example.org\ncontent-length: 5242880\nx-amz-trailer: x-amz-checksum-crc32c\n\
     x-amz-decoded-content-length: 5242880\ncontent-encoding: aws-chunked,gzip",
    "GET /bucket/key?uploadId=00112233445566778899aabbccddeeff&max-parts=5&part-number-marker=1\n\
     host: s3.example.org",
    "POST /bucket?delete\nhost: s3.example.org\nx-amz-sdk-checksum-algorithm: CRC32",
    "GET /bucket/key?attributes\nhost: s3.example.org\nx-amz-object-attributes: ETag,ObjectParts\n\
     x-amz-max-parts: 3",
    "OPTIONS /bucket/key\nhost: s3.example.org\norigin: x\naccess-control-request-method: GET",
];

const WORDS: [&str; 28] = [
    "?acl",
    "?policy",
    "?versioning",
    "&",
    "=",
    "%",
    "%2F",
    "%00",
    "%ff",
    "/",
    "//",
    "..",
    "\n",
    "content-length: ",
    "18446744073709551616",
    "-1",
    "2147483648",
    "x-amz-acl: private\n",
    "x-amz-meta-é: ü\n",
    "range: bytes=-0\n",
    "transfer-encoding: chunked\n",
    "aws-chunked",
    "x-amz-decoded-content-length: 0\n",
    "uploadId=",
    "partNumber=0",
    "x-amz-checksum-sha256: ",
    "é",
    "\u{fffd}",
];

#[test]
fn heads_of_requests() {
    let domains = ["s3.example.org".to_owned()];
    Target::text("heads of requests", HEADS.map(str::to_owned), WORDS).run(|input| {
        let Some(parts) = request_head(input) else { return "no request".to_owned() };
        let mut request = match Request::parse(parts, &domains) {
            Ok(request) => request,
            Err(error) => return error.code.text().to_owned(),
        };
        request.adopt_presigned_headers();
        if operation::is_preflight(&request) {
            return operation::preflight(&request).code.text().to_owned();
        }
        let framed = Payload::Chunked { signer: None, trailers: true };
        let mut said = String::new();
        for payload in [Payload::Unsigned, framed] {
            for content in [Content::Bytes, Content::Document, Content::Completion] {
                said = match Promise::of(&request, &payload, content) {
                    Ok(promise) => promise.has_checksum().to_string(),
                    Err(error) => error.code.text().to_owned(),
                };
            }
        }
        match Operation::parse(&request) {
            Ok(operation) => {
                let level = operation.asked_level(&request).is_ok();
                format!(
                    "{} {level} {said} {:?}",
                    operation.name(),
                    operation.copy_source().is_some()
                )
            }
            Err(error) => format!("{} {said}", error.code.text()),
        }
    });
}

const DOCUMENTS: [(&str, &str); 4] = [
    (
        "CompleteMultipartUpload",
        "<?xml version=\"1.0\"?><CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <Part><ETag>&quot;a&#34;</ETag><PartNumber>1</PartNumber><ChecksumCRC32>AAAA\
         </ChecksumCRC32></Part><Part><PartNumber>2</PartNumber><ETag>b</ETag></Part>\
         </CompleteMultipartUpload>",
    ),
    (
        "Delete",
        "<Delete><Object><Key>a&amp;b</Key></Object><Object><Key><![CDATA[c]]></Key><VersionId>null\
         </VersionId></Object><Quiet>true</Quiet></Delete>",
    ),
    (
        "CreateBucketConfiguration",
        "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint>\
         </CreateBucketConfiguration>",
    ),
    ("Delete", "<s3:Delete xmlns:s3='x'><!-- c --><s3:Object/><?p i?></s3:Delete>"),
];

const MARKUP: [&str; 22] = [
    "<a>",
    "</a>",
    "<Part>",
    "</Part>",
    "<Object>",
    "</Object>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<!DOCTYPE a [<!ENTITY b \"cccccccccccccccc\">]>",
    "&b;",
    "&#x10ffff;",
    "&#xd800;",
    "&#0;",
    "&lt;",
    "<?xml encoding='utf-16'?>",
    "<a/>",
    "xmlns:a='b'",
    "\u{feff}",
    "99999",
    "<a:b:c>",
];

#[test]
fn documents() {
    let corpus = DOCUMENTS.map(|(_, document)| document.to_owned());
    Target::text("documents", corpus, MARKUP).run(|input| {
        let parsed = DOCUMENTS.map(|(root, _)| match xml::parse(input, root) {
            Ok(element) => (element.children.len().min(4), 0),
            Err(error) => (9, error.code.text().len()),
        });
        let operations = super::ops::fuzz::documents(input);
        format!("{parsed:?} {operations:?}").replace(char::is_numeric, "x")
            + &"i".repeat(parsed[0].0)
            + &"j".repeat(parsed[1].0)
    });
}

fn object(size: u64) -> ObjectHead {
    ObjectHead {
        key: Key::new("key").unwrap(),
        size,
        modified: UnixMillis(1_369_353_600_000),
        etag: "d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        headers: Vec::new(),
        checksums: Vec::new(),
        parts: Vec::new(),
    }
}

const CONDITIONS: [&str; 8] = [
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
];

#[test]
fn ranges_and_conditions() {
    let corpus = [
        "bytes=0-9",
        "bytes=-5",
        "bytes=5-",
        "bytes=0-0,2-3",
        "\"d41d8cd98f00b204e9800998ecf8427e\"",
        "W/\"x\", *",
        "Fri, 24 May 2013 00:00:00 GMT",
    ];
    let words = ["bytes=", "-", ",", "\"", "*", "W/", "18446744073709551615", "0", " ", "é"];
    Target::text("ranges and conditions", corpus.map(str::to_owned), words).run(|input| {
        let mut said = String::new();
        if let Ok(value) = http::HeaderValue::from_bytes(input) {
            for name in CONDITIONS {
                let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.clone())]);
                let head = object(10);
                let copy = conditions::of_copy_source(&headers, &head);
                let applies = conditions::range_applies(&headers, &head);
                said += &format!("{:?}{copy:?}{applies}", conditions::of_read(&headers, &head));
            }
        }
        let Ok(text) = std::str::from_utf8(input) else { return said };
        for size in [0, 1, 10, u64::MAX] {
            if let range::Asked::Part(part) = range::parse(text, size) {
                assert!(part.start < part.end && part.end <= size, "{part:?} of {size}");
            }
        }
        if let Some(part) = range::parse_exact(text) {
            assert!(part.start <= part.end);
            said.push('e');
        }
        said
    });
}

#[test]
fn checksums_in_headers() {
    let corpus = ["AAAAAA==", "1B2M2Y8AsgTpgAmY7PhCfg==", "SHA256", "crc64nvme"];
    Target::text("checksums", corpus.map(str::to_owned), ["=", "+", "/", "A", "é", "CRC32C"]).run(
        |input| {
            let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
            format!("{:?}", super::body::fuzz::widths(text))
        },
    );
}

#[test]
fn tokens_of_listings() {
    super::ops::fuzz::tokens();
}

#[test]
fn framed_bodies() {
    super::body::fuzz::framed_bodies();
}
