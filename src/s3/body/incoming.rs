//! A request's body as the catalogue takes it: unframed, timed, counted, checked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use ring::digest;

use super::chunked::{Decoder, Step, Trailing};
use super::digests::{self, Digests};
use super::promise::Promise;
use crate::auth::Payload;
use crate::catalog::{BodyError, BodySource, Checksum, ChecksumAlgorithm, VerifiedBody};
use crate::env::{Clock, deadline_in, timeout_at};
use crate::s3::error::{Code, S3Error};
use crate::s3::metrics;

/// A client that sends nothing for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// No body is longer: what S3 allows one put or part, 5 GiB.
pub(crate) const BODY_BYTES_MAX: u64 = 5 << 30;

enum Framing {
    Plain,
    Chunked { decoder: Box<Decoder>, pending: Bytes },
}

/// A body that nobody has polled yet: a client that waits for `100 Continue` still waits.
pub(crate) struct Unread {
    /// The bytes.
    pub(crate) body: Body,
    /// What the signature says of them.
    pub(crate) payload: Payload,
    /// What the headers say of them.
    pub(crate) promise: Promise,
    /// Times the client.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Unread {
    /// Starts reading.
    pub(crate) fn open(self) -> Incoming {
        Incoming::new(self.body, self.payload, self.promise, self.clock)
    }
}

/// A body on its way in.
pub(crate) struct Incoming {
    body: Body,
    framing: Framing,
    promise: Promise,
    digests: Option<Digests>,
    sha256: Option<(digest::Context, [u8; 32])>,
    seen: u64,
    ended: bool,
    clock: Arc<dyn Clock>,
}

impl Incoming {
    /// The body of a request whose signature says `payload` of it.
    fn new(body: Body, payload: Payload, promise: Promise, clock: Arc<dyn Clock>) -> Self {
        let (framing, sha256) = match payload {
            Payload::Unsigned => (Framing::Plain, None),
            Payload::Signed(sum) => {
                (Framing::Plain, Some((digest::Context::new(&digest::SHA256), sum)))
            }
            Payload::Chunked { signer, trailers } => {
                let trailing = if trailers { Trailing::Expected } else { Trailing::Forbidden };
                let decoder = Box::new(Decoder::new(signer, trailing));
                (Framing::Chunked { decoder, pending: Bytes::new() }, None)
            }
        };
        let digests = Some(Digests::new(promise.compute.iter().copied()));
        Self { body, framing, promise, digests, sha256, seen: 0, ended: false, clock }
    }

    /// The next piece off the socket.
    async fn fetch(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            // What is there already is taken without setting a timer.
            let frame = match self.body.frame().now_or_never() {
                Some(frame) => frame,
                None => {
                    let deadline = deadline_in(&*self.clock, IDLE_MAX);
                    let frame = timeout_at(&*self.clock, deadline, self.body.frame()).await;
                    frame.ok_or_else(|| S3Error::new(Code::RequestTimeout).rejected())?
                }
            };
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| BodyError::Broken { reason: error.to_string() })?;
            match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                _ => {}
            }
        }
    }

    async fn unframed(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let Framing::Chunked { decoder, pending } = &mut self.framing else {
                return self.fetch().await;
            };
            match decoder.step(pending).map_err(S3Error::rejected)? {
                Step::Data(data) => return Ok(Some(data)),
                Step::Done if !pending.is_empty() => {
                    return Err(S3Error::new(Code::IncompleteBody).rejected());
                }
                Step::Hungry | Step::Done => {}
            }
            let more = self.fetch().await?;
            let Framing::Chunked { decoder, pending } = &mut self.framing else { continue };
            match more {
                Some(more) => *pending = more,
                None => {
                    decoder.end().map_err(S3Error::rejected)?;
                    return Ok(None);
                }
            }
        }
    }

    fn account(&mut self, data: &Bytes) -> Result<(), BodyError> {
        self.seen += data.len() as u64;
        if self.seen > BODY_BYTES_MAX {
            return Err(S3Error::new(Code::EntityTooLarge).rejected());
        }
        if self.promise.length.is_some_and(|length| self.seen > length) {
            return Err(S3Error::new(Code::IncompleteBody).rejected());
        }
        if let Some(digests) = &mut self.digests {
            digests.update(data);
        }
        metrics::BYTES_IN.inc_by(data.len() as u64);
        if let Some((sha256, _)) = &mut self.sha256 {
            sha256.update(data);
        }
        Ok(())
    }

    fn verdict(&mut self) -> Result<VerifiedBody, S3Error> {
        let whole = self.promise.length.is_none_or(|length| length == self.seen);
        let digests = self.digests.take().filter(|_| self.ended && whole);
        let found = digests.ok_or(Code::IncompleteBody)?.finish();
        if let Some((sha256, promised)) = self.sha256.take()
            && sha256.finish().as_ref() != promised
        {
            return Err(Code::ContentSha256Mismatch.into());
        }
        if self.promise.md5.is_some_and(|promised| promised != found.md5) {
            return Err(Code::BadDigest.into());
        }
        if let Some((algorithm, raw)) = self.promised_sum()? {
            let promised = STANDARD.encode(raw);
            let same = |sum: &Checksum| sum.algorithm == algorithm && sum.value == promised;
            if !found.checksums.iter().any(same) {
                let name = digests::name(algorithm);
                let message =
                    format!("The {name} you specified did not match the calculated checksum.");
                return Err(S3Error::with(Code::BadDigest, message));
            }
        }
        Ok(VerifiedBody { md5: found.md5, checksums: found.checksums })
    }

    /// The checksum given in a header or, by now, in a trailer.
    fn promised_sum(&mut self) -> Result<Option<(ChecksumAlgorithm, Vec<u8>)>, S3Error> {
        let Framing::Chunked { decoder, .. } = &self.framing else {
            return Ok(self.promise.sum.take());
        };
        let malformed = || S3Error::new(Code::MalformedTrailer);
        let Some(algorithm) = self.promise.trailer else {
            // A trailer that nobody announced is not signed for.
            let none = decoder.trailers().is_empty();
            return if none { Ok(self.promise.sum.take()) } else { Err(malformed()) };
        };
        let [(name, value)] = decoder.trailers() else { return Err(malformed()) };
        if name != digests::header_name(algorithm) {
            return Err(malformed());
        }
        let wrong = || {
            let message = format!("Value for {name} trailing header is invalid.");
            S3Error::with(Code::InvalidRequest, message)
        };
        let raw = digests::decode_sum(algorithm, value).ok_or_else(wrong)?;
        Ok(Some((algorithm, raw)))
    }
}

#[async_trait]
impl BodySource for Incoming {
    fn length(&self) -> Option<u64> {
        self.promise.length
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        if self.ended {
            return Ok(None);
        }
        let data = self.unframed().await?;
        match &data {
            Some(data) => self.account(data)?,
            None => self.ended = true,
        }
        Ok(data)
    }

    fn verify(&mut self) -> Result<VerifiedBody, BodyError> {
        self.verdict().map_err(S3Error::rejected)
    }
}

/// Reads and verifies a whole document of at most `limit` bytes.
///
/// # Errors
/// MaxMessageLengthExceeded, and whatever the body's checks say.
pub(crate) async fn read_document(body: &mut Incoming, limit: usize) -> Result<Bytes, S3Error> {
    let too_long = || S3Error::with(Code::MaxMessageLengthExceeded, "Your request was too big.");
    if body.length().is_some_and(|length| length > limit as u64) {
        return Err(too_long());
    }
    let mut document = BytesMut::new();
    while let Some(piece) = body.next().await? {
        if document.len() + piece.len() > limit {
            return Err(too_long());
        }
        document.extend_from_slice(&piece);
    }
    body.verify()?;
    Ok(document.freeze())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::stream;

    use super::{Incoming, Unread};
    use crate::auth::{ChunkSigner, Payload, SigningKey};
    use crate::catalog::{BodySource as _, VerifiedBody};
    use crate::env::OsClock;
    use crate::s3::body::Promise;
    use crate::s3::error::S3Error;

    /// AWS's example of a signed stream: 65,536 and 1,024 times 'a'.
    fn aws_example() -> Vec<u8> {
        let mut framed = Vec::new();
        for (size, signature) in [
            (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1_024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ] {
            framed
                .extend_from_slice(format!("{size:x};chunk-signature={signature}\r\n").as_bytes());
            framed.extend(std::iter::repeat_n(b'a', size));
            framed.extend_from_slice(b"\r\n");
        }
        framed
    }

    fn signed() -> Payload {
        let key =
            SigningKey::derive("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1");
        let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
        let scope = "20130524/us-east-1/s3/aws4_request";
        let signer = ChunkSigner::new(key, "20130524T000000Z", scope, seed);
        Payload::Chunked { signer: Some(Box::new(signer)), trailers: false }
    }

    fn incoming(payload: Payload, promise: Promise, wire: &[u8]) -> Incoming {
        let pieces: Vec<_> = wire.chunks(1_000).map(Bytes::copy_from_slice).collect();
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
        let clock = Arc::new(OsClock::new());
        Unread { body: Body::from_stream(pieces), payload, promise, clock }.open()
    }

    async fn read(mut body: Incoming) -> Result<(Vec<u8>, VerifiedBody), S3Error> {
        let mut bytes = Vec::new();
        while let Some(piece) = body.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok((bytes, body.verify()?))
    }

    fn promise(length: u64) -> Promise {
        Promise { length: Some(length), ..Promise::default() }
    }

    #[tokio::test]
    async fn the_example_of_a_signed_stream_is_unframed_and_verified() {
        let (bytes, _) = read(incoming(signed(), promise(66_560), &aws_example())).await.unwrap();

        assert!(bytes.len() == 66_560 && bytes.iter().all(|byte| *byte == b'a'));
    }

    #[tokio::test]
    async fn a_signed_stream_with_one_byte_changed_or_cut_off_is_refused() {
        let mut changed = aws_example();
        changed[30_000] ^= 1;
        let cut = &aws_example()[..60_000];

        let changed = read(incoming(signed(), promise(66_560), &changed)).await.unwrap_err();
        let cut = read(incoming(signed(), promise(66_560), cut)).await.unwrap_err();
        let longer = read(incoming(signed(), promise(100), &aws_example())).await.unwrap_err();

        assert_eq!(changed.code.text(), "SignatureDoesNotMatch");
        assert_eq!(cut.code.text(), "IncompleteBody");
        assert_eq!(longer.code.text(), "IncompleteBody");
    }

    #[tokio::test]
    async fn each_promise_is_checked_before_the_verdict() {
        let wrong = [
            (Payload::Signed([0; 32]), promise(3), "XAmzContentSHA256Mismatch"),
            (Payload::Unsigned, promise(4), "IncompleteBody"),
            (Payload::Unsigned, Promise { md5: Some([0; 16]), ..promise(3) }, "BadDigest"),
        ];
        for (payload, promise, code) in wrong {
            let error = read(incoming(payload, promise, b"abc")).await.unwrap_err();
            assert_eq!(error.code.text(), code);
        }
        let (_, verified) = read(incoming(Payload::Unsigned, promise(3), b"abc")).await.unwrap();
        assert_eq!(hex::encode(verified.md5), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[tokio::test]
    async fn a_trailer_must_be_the_announced_one_and_match() {
        use crate::catalog::ChecksumAlgorithm::Crc32;

        for (trailer, announced, code) in [
            ("x-amz-checksum-crc32:NSRBwg==\r\n", Some(Crc32), None),
            ("x-amz-checksum-crc32:AAAAAA==\r\n", Some(Crc32), Some("BadDigest")),
            ("x-amz-checksum-crc32:AAAA\r\n", Some(Crc32), Some("InvalidRequest")),
            ("x-amz-checksum-sha1:AAAAAA==\r\n", Some(Crc32), Some("MalformedTrailerError")),
            ("", Some(Crc32), Some("MalformedTrailerError")),
            ("x-amz-checksum-crc32:NSRBwg==\r\n", None, Some("MalformedTrailerError")),
            ("", None, None),
        ] {
            let compute = announced.into_iter().collect();
            let promise = Promise { trailer: announced, compute, ..promise(3) };
            let wire = format!("3\r\nabc\r\n0\r\n{trailer}\r\n");
            let payload = Payload::Chunked { signer: None, trailers: true };

            let result = read(incoming(payload, promise, wire.as_bytes())).await;

            assert_eq!(result.err().map(|error| error.code.text()), code, "{trailer}");
        }
    }
}
