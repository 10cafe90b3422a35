//! The examples that AWS publishes with their signatures (S3 API reference, "Signature
//! calculations for the Authorization header", "Using query parameters", "Transferring payload
//! in multiple chunks").

use std::sync::Arc;

use http::request::Builder;

use super::canonical::EMPTY_SHA256;
use super::dates;
use super::error::AuthError;
use super::head::Head;
use super::signature::{ChunkSigner, SigningKey};
use super::verify::{Authenticated, Authenticator, Payload, Signatory};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const HOST: &str = "examplebucket.s3.amazonaws.com";
const DATE: &str = "20130524T000000Z";
const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";

/// AWS's example user.
struct Example;

impl Signatory for Example {
    fn access_key_id(&self) -> &str {
        "AKIAIOSFODNN7EXAMPLE"
    }

    fn secret_access_key(&self) -> &str {
        SECRET
    }
}

fn find(id: &str) -> Option<Arc<Example>> {
    (id == Example.access_key_id()).then(|| Arc::new(Example))
}

fn at(date: &str) -> i64 {
    dates::parse_basic(date).unwrap()
}

fn request(builder: Builder) -> Head {
    let request = builder.header("host", HOST).body(()).unwrap();
    Head::parse(request.into_parts().0, |_| Some("examplebucket".to_owned())).unwrap()
}

fn authenticate(builder: Builder, now: i64) -> Result<Authenticated<Example>, AuthError> {
    Authenticator::new("us-east-1").authenticate(&request(builder), now, find)
}

fn authorization(signed: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/{SCOPE},SignedHeaders={signed},\
         Signature={signature}"
    )
}

fn get_with_range() -> Builder {
    http::Request::get("/test.txt").header("range", "bytes=0-9").header("x-amz-date", DATE)
}

const GET_SIGNED: &str = "host;range;x-amz-content-sha256;x-amz-date";
const GET_SIGNATURE: &str = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";

fn signed_get() -> Builder {
    get_with_range()
        .header("x-amz-content-sha256", EMPTY_SHA256)
        .header("authorization", authorization(GET_SIGNED, GET_SIGNATURE))
}

#[test]
fn get_object() {
    assert!(authenticate(signed_get(), at(DATE)).is_ok());
}

#[test]
fn put_object_with_an_http_date() {
    let sha256 = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
    let signed = "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class";
    let put = http::Request::put("/test%24file.text")
        .header("date", "Fri, 24 May 2013 00:00:00 GMT")
        .header("x-amz-date", DATE)
        .header("x-amz-storage-class", "REDUCED_REDUNDANCY")
        .header("x-amz-content-sha256", sha256)
        .header("authorization", authorization(signed, signature));

    let caller = authenticate(put, at(DATE)).unwrap();

    assert!(matches!(caller.payload, Payload::Signed(sum) if hex::encode(sum) == sha256));
}

#[test]
fn bucket_settings_and_listings() {
    for (uri, signature) in [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/?max-keys=2&prefix=J",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ] {
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let get = http::Request::get(uri)
            .header("x-amz-date", DATE)
            .header("x-amz-content-sha256", EMPTY_SHA256)
            .header("authorization", authorization(signed, signature));

        assert!(authenticate(get, at(DATE)).is_ok(), "{uri}");
    }
}

fn presigned() -> Builder {
    http::Request::get(
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F\
         20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400\
         &X-Amz-SignedHeaders=host&X-Amz-Signature=\
         aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
    )
}

#[test]
fn a_presigned_url_holds_for_its_day_and_not_longer() {
    assert!(authenticate(presigned(), at(DATE)).is_ok());
    assert!(authenticate(presigned(), at("20130524T235959Z")).is_ok());

    for (now, code) in [("20130525T000001Z", "AccessDenied"), ("20130523T230000Z", "AccessDenied")]
    {
        let error = authenticate(presigned(), at(now)).err().unwrap();
        assert_eq!(error.code.text(), code, "{now}: {error}");
    }
}

#[test]
fn chunks_and_their_seed() {
    let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let signed = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
                  x-amz-decoded-content-length;x-amz-storage-class";
    let put = http::Request::put("/examplebucket/chunkObject.txt")
        .header("x-amz-date", DATE)
        .header("x-amz-storage-class", "REDUCED_REDUNDANCY")
        .header("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", "66560")
        .header("content-length", "66824")
        .header("authorization", authorization(signed, seed))
        .header("host", "s3.amazonaws.com")
        .body(())
        .unwrap();
    let put = Head::parse(put.into_parts().0, |_| None).unwrap();

    let caller = Authenticator::new("us-east-1").authenticate(&put, at(DATE), find).unwrap();

    let Payload::Chunked { signer: Some(mut signer), trailers: false } = caller.payload else {
        panic!("a signed stream was expected");
    };
    for (size, signature) in [
        (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1_024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ] {
        let sha256 = ring::digest::digest(&ring::digest::SHA256, &vec![b'a'; size]);
        signer.chunk(sha256.as_ref(), signature).unwrap();
    }
}

#[test]
fn chunks_with_a_trailer() {
    let seed = "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e";
    let key = SigningKey::derive(SECRET, "20130524", "us-east-1");
    let mut signer = ChunkSigner::new(key, DATE, SCOPE, seed);
    let sha256 = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes);

    for (size, signature) in [
        (65_536, "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2"),
        (1_024, "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7"),
        (0, "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"),
    ] {
        signer.chunk(sha256(&vec![b'a'; size]).as_ref(), signature).unwrap();
    }
    let trailer = sha256(b"x-amz-checksum-crc32c:sOO8/Q==\n");
    let signature = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435";
    signer.trailer(trailer.as_ref(), signature).unwrap();
    assert!(signer.trailer(trailer.as_ref(), signature).is_err());
}

#[test]
fn each_way_to_fail_has_its_code() {
    let get = |header: &str, value: &str| {
        get_with_range().header("x-amz-content-sha256", EMPTY_SHA256).header(header, value)
    };
    let signed = |signature: &str| authorization(GET_SIGNED, signature);
    let wrong = GET_SIGNATURE.replace('f', "e");
    let other_key = signed(GET_SIGNATURE).replace("AKIAIOSFODNN7EXAMPLE", "AKIAOTHER");
    let region = signed(GET_SIGNATURE).replace("us-east-1", "eu-west-1");
    let unsigned = authorization("host;x-amz-date", GET_SIGNATURE);
    for (builder, now, code) in [
        (get("authorization", &signed(&wrong)), DATE, "SignatureDoesNotMatch"),
        (get("authorization", &signed("zz")), DATE, "SignatureDoesNotMatch"),
        (get("authorization", &other_key), DATE, "InvalidAccessKeyId"),
        (get("authorization", &region), DATE, "AuthorizationHeaderMalformed"),
        (get("authorization", "AWS4-HMAC-SHA256 nonsense"), DATE, "AuthorizationHeaderMalformed"),
        (get("authorization", "AWS AKID:sig"), DATE, "InvalidRequest"),
        (get("authorization", &unsigned), DATE, "AccessDenied"),
        (get("x", "y"), DATE, "AccessDenied"),
        (signed_get(), "20130524T001501Z", "RequestTimeTooSkewed"),
        (signed_get(), "20130523T234459Z", "RequestTimeTooSkewed"),
        (signed_get().header("x-amz-meta-a", "unsigned"), DATE, "AccessDenied"),
        (signed_get().header("x-amz-security-token", "t"), DATE, "InvalidToken"),
    ] {
        let error = authenticate(builder, at(now)).err().unwrap();
        assert_eq!(error.code.text(), code, "{error}");
    }
}

#[test]
#[ignore = "a measurement"]
fn a_signature_check_takes_microseconds() {
    let authenticator = Authenticator::new("us-east-1");
    let clock = crate::env::OsClock::new();
    let started = crate::env::Clock::monotonic(&clock);

    for _ in 0..10_000 {
        let request = request(signed_get());
        authenticator.authenticate(&request, at(DATE), find).ok().unwrap();
    }

    let time = crate::env::Clock::monotonic(&clock).since(started);
    println!("{:?} per request, parsing included", time / 10_000);
}
