//! A seeded mutation harness for everything that reads foreign bytes.
//!
//! Each area has a file beside this one, compiled into the library's own tests as a module of its
//! folder, so that what is read there can be reached. A target starts from what the real encoders
//! make, changes it, and checks that whoever reads it neither panics, nor takes much memory or
//! time, nor understands twice what it understood once. An input whose outcome is new joins the
//! corpus. `FUZZ_SECONDS` says how long each target runs, `FUZZ_SEED` where it begins; a failure
//! prints its input.
#![expect(clippy::disallowed_methods, reason = "it measures how long the reader takes")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Format, decode_format, decode_message, encode_format, encode_message};

/// It counts what each thread allocates.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The longest input.
const INPUT_MAX: usize = 64 << 10;
/// The most changes of one input.
const CHANGES_MAX: u32 = 6;
/// The largest corpus.
const CORPUS_MAX: usize = 4_000;
/// How long an input may take; it is tried again before that counts, for machines are busy.
const TIME_MAX: Duration = Duration::from_millis(500);
const TRIES: u32 = 5;
/// How long a target runs unless `FUZZ_SECONDS` says otherwise.
const SECONDS: f64 = 1.0;

/// Numbers at which readers go wrong.
const NUMBERS: [u64; 16] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// Heads of MessagePack values that promise more than there is, and others that are awkward.
const PACKED: [&[u8]; 14] = [
    &[0xdc, 0xff, 0xff],
    &[0xdd, 0xff, 0xff, 0xff, 0xff],
    &[0xde, 0xff, 0xff],
    &[0xdf, 0xff, 0xff, 0xff, 0xff],
    &[0xc6, 0xff, 0xff, 0xff, 0xff],
    &[0xdb, 0xff, 0xff, 0xff, 0xff],
    &[0xc9, 0xff, 0xff, 0xff, 0xff, 1],
    &[0xc7, 0xff, 1],
    &[0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0],
    &[0xc0],
    &[0x90],
    &[0x80],
    &[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
];

/// One reader of foreign bytes.
pub(crate) struct Target {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    /// Bytes that may be allocated for an input, and for each of its bytes.
    memory: (u64, u64),
}

impl Target {
    /// A reader of MessagePack and other binary forms.
    pub(crate) fn binary(name: &'static str, corpus: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let words = PACKED.iter().map(|word| word.to_vec()).collect();
        // A vector whose length is promised takes a MiB before its first element is read.
        let memory = (16 << 20, 512);
        Self { name, corpus: corpus.into_iter().collect(), words, memory }
    }

    /// A reader of text, in which these words mean something.
    pub(crate) fn text<'a>(
        name: &'static str,
        corpus: impl IntoIterator<Item = String>,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let corpus = corpus.into_iter().map(String::into_bytes).collect();
        let words = words.into_iter().map(|word| word.as_bytes().to_vec()).collect();
        Self { name, corpus, words, memory: (1 << 20, 512) }
    }

    /// Runs `read`, which tells in a few words what became of an input.
    pub(crate) fn run(mut self, mut read: impl FnMut(&[u8]) -> String) {
        assert!(!self.corpus.is_empty(), "{} begins with nothing", self.name);
        let number =
            |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<f64>().ok());
        let span = Duration::from_secs_f64(number("FUZZ_SECONDS").unwrap_or(SECONDS));
        let mut draws = StdRng::seed_from_u64(number("FUZZ_SEED").unwrap_or(1.0) as u64);
        let (began, mut inputs, mut outcomes) = (Instant::now(), 0_u64, BTreeSet::new());
        for input in self.corpus.clone() {
            outcomes.insert(self.check(&input, &mut read));
            inputs += 1;
        }
        while began.elapsed() < span {
            let input = self.draw(&mut draws);
            let outcome = self.check(&input, &mut read);
            inputs += 1;
            if self.corpus.len() < CORPUS_MAX && outcomes.insert(outcome) {
                self.corpus.push(input);
            }
        }
        println!("{}: {inputs} inputs, {} outcomes", self.name, outcomes.len());
    }

    /// Reads one input and sees that it does no harm.
    fn check(&self, input: &[u8], read: &mut dyn FnMut(&[u8]) -> String) -> String {
        let mut outcome = String::new();
        for attempt in 1..=TRIES {
            let (began, before) = (Instant::now(), allocated());
            let result = catch_unwind(AssertUnwindSafe(|| read(input)));
            let (took, memory) = (began.elapsed(), allocated() - before);
            outcome = result.unwrap_or_else(|_| panic!("it panics: {}", self.shown(input)));
            let (some, each) = self.memory;
            let bound = some + each * input.len() as u64;
            assert!(memory <= bound, "it takes {memory} bytes: {}", self.shown(input));
            if took <= TIME_MAX {
                break;
            }
            assert!(attempt < TRIES, "it takes {took:?}: {}", self.shown(input));
        }
        class(&outcome)
    }

    fn shown(&self, input: &[u8]) -> String {
        let (text, hex) = (String::from_utf8_lossy(input), hex::encode(input));
        format!("{} of {} bytes\n{text:?}\n{hex}", self.name, input.len())
    }

    fn draw(&self, draws: &mut StdRng) -> Vec<u8> {
        let mut input = self.corpus.choose(draws).cloned().unwrap_or_default();
        for _ in 0..draws.random_range(1..=CHANGES_MAX) {
            self.change(&mut input, draws);
        }
        input.truncate(INPUT_MAX);
        input
    }

    fn change(&self, input: &mut Vec<u8>, draws: &mut StdRng) {
        let (start, end) = span(input.len(), draws);
        match draws.random_range(0..13) {
            0 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte ^= 1_u8 << draws.random_range(0..8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(start) {
                    *byte = draws.random();
                }
            }
            2 => input.truncate(start),
            3 => drop(input.drain(start..end)),
            4 => {
                let piece = input[start..end].to_vec();
                let times = 1_usize << draws.random_range(0..8);
                let many = piece.repeat(times.min(INPUT_MAX / piece.len().max(1)));
                drop(input.splice(end..end, many));
            }
            5 => drop(input.splice(start..end, number_bytes(draws))),
            6 => {
                let bytes = number_bytes(draws);
                let end = start.saturating_add(bytes.len()).min(input.len());
                drop(input.splice(start..end, bytes));
            }
            7 | 8 => {
                let end = if draws.random() { start } else { end };
                let word = self.words.choose(draws).cloned().unwrap_or_default();
                drop(input.splice(start..end, word));
            }
            9 => {
                let other = self.corpus.choose(draws).map_or(&[][..], Vec::as_slice);
                let (from, to) = span(other.len(), draws);
                drop(input.splice(start..end, other[from..to].iter().copied()));
            }
            10 => {
                let number = NUMBERS.choose(draws).copied().unwrap_or_default();
                drop(input.splice(start..end, number.to_string().into_bytes()));
            }
            11 => {
                if let Some(byte) = input.get_mut(start) {
                    let by: u8 = draws.random_range(1..4);
                    *byte =
                        if draws.random() { byte.wrapping_add(by) } else { byte.wrapping_sub(by) };
                }
            }
            _ => {
                let piece: Vec<u8> = input.drain(start..end).collect();
                let at = draws.random_range(0..=input.len());
                drop(input.splice(at..at, piece));
            }
        }
    }
}

/// A part of so many bytes, short most of the time.
fn span(length: usize, draws: &mut StdRng) -> (usize, usize) {
    let start = draws.random_range(0..=length);
    let most = if draws.random_ratio(1, 8) { length - start } else { (length - start).min(16) };
    (start, start + draws.random_range(0..=most))
}

/// An awkward number in some width and order.
fn number_bytes(draws: &mut StdRng) -> Vec<u8> {
    let number = NUMBERS.choose(draws).copied().unwrap_or_default();
    let width = [1, 2, 4, 8].choose(draws).copied().unwrap_or(8);
    match draws.random() {
        true => number.to_le_bytes()[..width].to_vec(),
        false => number.to_be_bytes()[8 - width..].to_vec(),
    }
}

/// Bytes that this thread has ever allocated.
fn allocated() -> u64 {
    tikv_jemalloc_ctl::thread::allocatedp::read().map_or(0, |counter| counter.get())
}

/// An outcome without what differs from input to input: numbers, and words that are quoted.
fn class(outcome: &str) -> String {
    let (mut quote, mut before) = (None, ' ');
    let kept = outcome.chars().filter(|c| {
        let opens = matches!(c, '`' | '"') || (*c == '\'' && !before.is_alphanumeric());
        before = *c;
        match quote {
            Some(end) if end == *c => quote = None,
            None if opens => quote = Some(*c),
            _ => {}
        }
        quote.is_none() && (c.is_ascii_alphabetic() || *c == ' ')
    });
    kept.take(90).collect()
}

/// Reads a stored value; what is understood is written so that the same is understood again.
pub(crate) fn stored<T: Format>(bytes: &[u8]) -> Result<T, String> {
    let value = decode_format::<T>(bytes).map_err(|error| error.to_string())?;
    let again = encode_format(&value).unwrap();
    let twice = decode_format::<T>(&again).unwrap();
    assert_eq!(encode_format(&twice).unwrap(), again);
    Ok(value)
}

/// The same of a message.
pub(crate) fn sent<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let value = decode_message::<T>(bytes).map_err(|error| error.to_string())?;
    let again = encode_message(&value).unwrap();
    let twice = decode_message::<T>(&again).unwrap();
    assert_eq!(encode_message(&twice).unwrap(), again);
    Ok(value)
}

/// What became of an input.
pub(crate) fn told<T, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "understood".to_owned())
}

/// Changes stored values of one type.
pub(crate) fn stored_values<T: Format>(name: &'static str, values: &[T]) {
    let corpus: Vec<_> = values.iter().map(|value| encode_format(value).unwrap()).collect();
    Target::binary(name, corpus).run(|bytes| told(stored::<T>(bytes)));
}

/// Changes messages of one type.
pub(crate) fn messages<T: Serialize + DeserializeOwned>(name: &'static str, values: &[T]) {
    let corpus: Vec<_> = values.iter().map(|value| encode_message(value).unwrap()).collect();
    Target::binary(name, corpus).run(|bytes| told(sent::<T>(bytes)));
}

/// A request's head in lines: method and target, then headers; `None` if no server would take it.
pub(crate) fn request_head(lines: &[u8]) -> Option<http::request::Parts> {
    let mut lines = lines.split(|byte| *byte == b'\n');
    let (method, target) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = http::Request::builder().method(method).uri(target);
    for line in lines.filter(|line| !line.is_empty()) {
        let at = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..at], line[at + 1..].trim_ascii());
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// A file of `tests/fixtures`, as an older or this release wrote it.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    hex::decode(std::fs::read_to_string(path).unwrap().trim()).unwrap()
}

#[test]
fn a_reader_that_panics_or_takes_much_memory_is_found() {
    let found = |read: fn(&[u8]) -> String| {
        let target = || Target::binary("a bad reader", [vec![0; 4]]);
        catch_unwind(AssertUnwindSafe(|| target().run(read))).is_err()
    };

    assert!(found(|bytes| format!("{}", 100 / u32::from(*bytes.first().unwrap_or(&1)))));
    assert!(found(|bytes| {
        let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_be_bytes(*length));
        format!("{}", Vec::<u8>::with_capacity(length as usize / 16).capacity())
    }));
    assert!(!found(|bytes| bytes.len().to_string()));
}
