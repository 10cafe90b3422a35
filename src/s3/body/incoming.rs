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
use crate::catalog::{BodyError, BodySource, Checksum, ChecksumAlgorithm, VerifiedBody};
use crate::env::{Clock, deadline_in, timeout_at};
use crate::s3::auth::Payload;
use crate::s3::error::{Code, S3Error};
use crate::s3::metrics;

/// A client that sends nothing for so long is given up.
const IDLE_MAX: Duration = Duration::from_secs(30);

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
