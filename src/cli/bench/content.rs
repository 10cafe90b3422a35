//! Bytes that follow from a key.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// Pieces of a body on its way out.
const PIECE_BYTES: u64 = 256 << 10;
/// Words that are compared at once.
const BLOCK_WORDS: usize = 256;

/// Mixes a number so that neighbours have nothing in common (the finaliser of splitmix64).
pub(super) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The endless stream of bytes that belongs to a key; objects are its beginnings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    seed: u64,
}

impl Content {
    /// The stream of `key`.
    pub(super) fn of(key: &str) -> Self {
        let seed =
            key.bytes().fold(mix(key.len() as u64), |seed, byte| mix(seed ^ u64::from(byte)));
        Self { seed }
    }

    /// The eight bytes that begin at eight times `index`. One multiplication a word: the client
    /// must not cost what it measures.
    fn word(self, index: u64) -> u64 {
        let word = self.seed.wrapping_add(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word ^ (word >> 29)
    }

    /// Fills `buffer` with the bytes from `start` on; `start` must be a multiple of 8.
    fn fill(self, start: u64, buffer: &mut [u8]) {
        let (words, rest) = buffer.as_chunks_mut::<8>();
        let after = start / 8 + words.len() as u64;
        for (index, word) in (start / 8..).zip(words) {
            *word = self.word(index).to_le_bytes();
        }
        rest.copy_from_slice(&self.word(after).to_le_bytes()[..rest.len()]);
    }

    /// The position of the first byte of `bytes` that does not belong at `start`, which may be
    /// any position.
    pub(super) fn first_difference(self, start: u64, bytes: &[u8]) -> Option<u64> {
        let head = bytes.len().min(((8 - start % 8) % 8) as usize);
        let (unaligned, aligned) = bytes.split_at(head);
        let mut position = start + head as u64;
        let (words, rest) = aligned.as_chunks::<8>();
        let mut found = self.locate(start, unaligned);
        // Whole blocks are compared without a branch for each word.
        for block in words.chunks(BLOCK_WORDS) {
            let wrong = (position / 8..).zip(block).fold(0, |wrong, (index, word)| {
                wrong | (self.word(index) ^ u64::from_le_bytes(*word))
            });
            if wrong != 0 {
                found = found.or_else(|| self.locate(position, block.as_flattened()));
            }
            position += block.len() as u64 * 8;
        }
        found.or_else(|| self.locate(position, rest))
    }

    fn locate(self, start: u64, piece: &[u8]) -> Option<u64> {
        let wanted = |position: u64| self.word(position / 8).to_le_bytes()[(position % 8) as usize];
        (start..).zip(piece).find(|(at, byte)| wanted(*at) != **byte).map(|(at, _)| at)
    }
}

/// The first `size` bytes of a content, as the body of a request.
pub(super) struct ContentBody {
    content: Content,
    position: u64,
    size: u64,
}

impl ContentBody {
    /// A body of `size` bytes.
    pub(super) fn new(content: Content, size: u64) -> Self {
        Self { content, position: 0, size }
    }

    /// No bytes.
    pub(super) fn empty() -> Self {
        Self::new(Content { seed: 0 }, 0)
    }
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let length = PIECE_BYTES.min(self.size - self.position) as usize;
        let mut piece = BytesMut::zeroed(length);
        self.content.fill(self.position, &mut piece);
        self.position += length as u64;
        Poll::Ready(Some(Ok(Frame::data(piece.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.position == self.size
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size - self.position)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::{Content, ContentBody};

    async fn body(content: Content, size: u64) -> Vec<u8> {
        ContentBody::new(content, size).collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn what_was_sent_is_recognised_in_any_pieces() {
        let content = Content::of("a");
        let bytes = body(content, 600_001).await;

        for cut in [1_usize, 3, 8, 13, 4_096, 262_144] {
            let mut start = 0;
            for piece in bytes.chunks(cut) {
                assert_eq!(content.first_difference(start, piece), None, "{cut} at {start}");
                start += piece.len() as u64;
            }
        }
    }

    #[tokio::test]
    async fn the_bytes_of_another_key_are_not_taken_for_these() {
        let bytes = body(Content::of("a"), 64).await;

        assert_eq!(Content::of("b").first_difference(0, &bytes), Some(0));
        assert_eq!(Content::of("a").first_difference(8, &bytes), Some(8));
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_found_where_it_is(
            start in 0_u64..100, length in 1_usize..200, at in 0_usize..200, bit in 0_u8..8
        ) {
            let content = Content::of("key");
            let mut bytes = vec![0; 304];
            content.fill(0, &mut bytes);
            let piece = &mut bytes[start as usize..start as usize + length];
            let at = at % length;
            piece[at] ^= 1 << bit;

            prop_assert_eq!(content.first_difference(start, piece), Some(start + at as u64));
        }
    }
}
