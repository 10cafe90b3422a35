//! The framing `aws-chunked`, decoded piece by piece as it streams by (pure).

use bytes::{Buf, Bytes};
use ring::digest;

use crate::auth::ChunkSigner;
use crate::s3::error::{Code, S3Error};

/// A chunk's first line: 16 digits, the signature, and room for extensions.
const LINE_BYTES_MAX: usize = 1024;
/// So many trailer lines are read; clients send two.
const TRAILERS_MAX: usize = 16;

enum State {
    /// Collecting a chunk's first line.
    Head,
    /// Passing on a chunk's bytes.
    Data { left: u64 },
    /// Expecting the line end behind a chunk's bytes.
    DataEnd,
    /// Collecting trailer lines.
    Trailers,
    /// Everything was read.
    Done,
}

/// What one step of decoding found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Bytes of the body.
    Data(Bytes),
    /// More input is needed.
    Hungry,
    /// The body is complete.
    Done,
}

/// Decodes one body.
pub(super) struct Decoder {
    state: State,
    line: Vec<u8>,
    signer: Option<Box<ChunkSigner>>,
    signature: String,
    sha256: digest::Context,
    with_trailers: bool,
    trailers: Vec<(String, String)>,
}

impl Decoder {
    /// A decoder that checks signatures if `signer` is given.
    pub(super) fn new(signer: Option<Box<ChunkSigner>>, trailers: Trailing) -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            signer,
            signature: String::new(),
            sha256: digest::Context::new(&digest::SHA256),
            with_trailers: trailers == Trailing::Expected,
            trailers: Vec::new(),
        }
    }

    /// Takes what it can from the front of `input`.
    ///
    /// # Errors
    /// IncompleteBody for broken framing, MalformedTrailerError, SignatureDoesNotMatch.
    pub(super) fn step(&mut self, input: &mut Bytes) -> Result<Step, S3Error> {
        loop {
            match self.state {
                State::Done => return Ok(Step::Done),
                State::Data { left } => {
                    if input.is_empty() {
                        return Ok(Step::Hungry);
                    }
                    return Ok(Step::Data(self.take_data(left, input)));
                }
                State::Head | State::DataEnd | State::Trailers => {
                    if !self.fill_line(input)? {
                        return Ok(Step::Hungry);
                    }
                    let line = std::mem::take(&mut self.line);
                    self.take_line(&line)?;
                }
            }
        }
    }

    /// The end of the input came: was everything there?
    ///
    /// # Errors
    /// IncompleteBody if not.
    pub(super) fn end(&mut self) -> Result<(), S3Error> {
        // The last chunk's empty line is left out by some clients, and nothing hangs on it.
        let unterminated = matches!(self.state, State::Trailers)
            && !self.with_trailers
            && self.line.iter().all(|byte| *byte == b'\r');
        if unterminated || matches!(self.state, State::Done) {
            self.state = State::Done;
            return Ok(());
        }
        Err(Code::IncompleteBody.into())
    }

    /// The trailers, once done: lower-case names and values, signatures left out.
    pub(super) fn trailers(&self) -> &[(String, String)] {
        &self.trailers
    }

    fn take_data(&mut self, left: u64, input: &mut Bytes) -> Bytes {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let data = input.split_to(take);
        if self.signer.is_some() {
            self.sha256.update(&data);
        }
        let left = left - take as u64;
        self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
        data
    }

    /// Whether `line` now holds a whole line, its end taken off.
    fn fill_line(&mut self, input: &mut Bytes) -> Result<bool, S3Error> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let take = end.unwrap_or(input.len());
        if self.line.len() + take > LINE_BYTES_MAX {
            return Err(S3Error::with(Code::IncompleteBody, "A chunk's first line is too long."));
        }
        self.line.extend_from_slice(&input[..take]);
        input.advance(end.map_or(take, |end| end + 1));
        if end.is_some() && self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        Ok(end.is_some())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), S3Error> {
        match self.state {
            State::Head => self.take_head(line),
            State::DataEnd if line.is_empty() => {
                self.finish_chunk()?;
                self.state = State::Head;
                Ok(())
            }
            State::Trailers => self.take_trailer(line),
            State::DataEnd | State::Data { .. } | State::Done => {
                Err(S3Error::with(Code::IncompleteBody, "A chunk is longer than it said."))
            }
        }
    }

    fn take_head(&mut self, line: &[u8]) -> Result<(), S3Error> {
        let broken = || S3Error::with(Code::IncompleteBody, "A chunk's first line is malformed.");
        let line = std::str::from_utf8(line).map_err(|_| broken())?;
        let mut fields = line.split(';').map(str::trim);
        let size = fields.next().unwrap_or_default();
        let digits = (1..=16).contains(&size.len()) && size.bytes().all(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(size, 16).ok().filter(|_| digits).ok_or_else(broken)?;
        let signature = fields.find_map(|field| field.strip_prefix("chunk-signature="));
        signature.unwrap_or_default().clone_into(&mut self.signature);
        if size == 0 {
            self.finish_chunk()?;
            self.state = State::Trailers;
        } else {
            self.state = State::Data { left: size };
        }
        Ok(())
    }

    fn finish_chunk(&mut self) -> Result<(), S3Error> {
        let Some(signer) = &mut self.signer else { return Ok(()) };
        let sha256 = std::mem::replace(&mut self.sha256, digest::Context::new(&digest::SHA256));
        Ok(signer.chunk(sha256.finish().as_ref(), &self.signature)?)
    }

    fn take_trailer(&mut self, line: &[u8]) -> Result<(), S3Error> {
        let malformed = || S3Error::new(Code::MalformedTrailer);
        let line = std::str::from_utf8(line).map_err(|_| malformed())?.trim();
        if line.is_empty() {
            return self.finish_trailers();
        }
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        if !self.with_trailers || self.trailers.len() >= TRAILERS_MAX {
            return Err(malformed());
        }
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "x-amz-trailer-signature" {
            self.check_trailers(value)?;
        }
        self.trailers.push((name, value.to_owned()));
        Ok(())
    }

    /// The signature covers the lines before it and must be the last line.
    fn check_trailers(&mut self, signature: &str) -> Result<(), S3Error> {
        let Some(signer) = &mut self.signer else { return Ok(()) };
        let lines: String =
            self.trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let sha256 = digest::digest(&digest::SHA256, lines.as_bytes());
        Ok(signer.trailer(sha256.as_ref(), signature)?)
    }

    fn finish_trailers(&mut self) -> Result<(), S3Error> {
        let signed = |(name, _): &(String, String)| name == "x-amz-trailer-signature";
        if self.with_trailers && self.signer.is_some() && !self.trailers.last().is_some_and(signed)
        {
            return Err(S3Error::with(Code::SignatureDoesNotMatch, "The trailers are not signed."));
        }
        if self.trailers.iter().filter(|trailer| signed(trailer)).count() > 1 {
            return Err(Code::MalformedTrailer.into());
        }
        self.trailers.retain(|trailer| !signed(trailer));
        self.state = State::Done;
        Ok(())
    }
}

/// Whether trailers may follow the last chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailing {
    /// They may.
    Expected,
    /// They must not.
    Forbidden,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Decoder, Step, Trailing};
    use crate::s3::error::S3Error;

    type Decoded = (Vec<u8>, Vec<(String, String)>);

    fn decode(pieces: Vec<Bytes>) -> Result<Decoded, S3Error> {
        let mut decoder = Decoder::new(None, Trailing::Expected);
        let mut body = Vec::new();
        for mut piece in pieces {
            loop {
                match decoder.step(&mut piece)? {
                    Step::Data(data) => body.extend_from_slice(&data),
                    Step::Hungry => break,
                    Step::Done if piece.is_empty() => break,
                    Step::Done => return Ok((body, decoder.trailers().to_vec())),
                }
            }
        }
        decoder.end()?;
        Ok((body, decoder.trailers().to_vec()))
    }

    fn frame(body: &[u8], chunk: usize) -> Vec<u8> {
        let mut framed = Vec::new();
        for chunk in body.chunks(chunk) {
            framed.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            framed.extend_from_slice(chunk);
            framed.extend_from_slice(b"\r\n");
        }
        framed.extend_from_slice(b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n");
        framed
    }

    #[test]
    fn hostile_lengths_and_endless_lines_are_refused() {
        for text in ["fffffffffffffffff\r\n", "-1\r\n", "+1\r\n", "\r\n", "zz\r\n", "1\r\nab\r\n"] {
            assert!(decode(vec![Bytes::from_static(text.as_bytes())]).is_err(), "{text:?}");
        }
        assert!(decode(vec![Bytes::from(vec![b'0'; 5000])]).is_err());
        assert!(decode(vec![Bytes::from_static(b"5\r\nabc")]).is_err());
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_the_body_is_the_same(
            body: Vec<u8>, chunk in 1usize..40, cut in 1usize..20,
        ) {
            let framed = frame(&body, chunk);
            let pieces = framed.chunks(cut).map(Bytes::copy_from_slice).collect();

            let (decoded, trailers) = decode(pieces).unwrap();

            prop_assert_eq!(decoded, body);
            prop_assert_eq!(trailers, vec![("x-amz-checksum-crc32".into(), "AAAAAA==".into())]);
        }

        #[test]
        fn a_stream_that_breaks_off_is_incomplete(body: Vec<u8>, at in any::<proptest::sample::Index>()) {
            let framed = frame(&body, 7);
            let cut = at.index(framed.len());

            prop_assert!(decode(vec![Bytes::copy_from_slice(&framed[..cut])]).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, cut in 1usize..20) {
            drop(decode(bytes.chunks(cut).map(Bytes::copy_from_slice).collect()));
        }
    }
}
