//! Configuration files and variables.

use std::fs;

use super::Config;
use crate::fuzz::{Target, told};
use crate::types::ByteCount;

const WORDS: [&str; 24] = [
    "[node]\n",
    "[[node]]\n",
    "[",
    "]",
    "=",
    "\"",
    "'''",
    "{",
    "}",
    ",",
    "\n",
    "#",
    ".",
    "capacity",
    "data_dir",
    "\"10GiB\"",
    "\"-1\"",
    "\"99999999999TiB\"",
    "1e400",
    "inf",
    "nan",
    "9223372036854775808",
    "0x7fffffffffffffff",
    "\\u0000",
];

fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quorate.toml");
    let example = fs::read_to_string(path("config/quorate.toml")).unwrap();
    let lines: Vec<&str> = example.lines().filter(|line| !line.starts_with("##")).collect();
    let enabled = example.lines().map(|line| line.strip_prefix("#").map_or(line, str::trim));
    let enabled = enabled.filter(|line| line.contains(" = ") || line.starts_with('['));
    let enabled = enabled.collect::<Vec<_>>().join("\n");
    Target::text("configuration files", [lines.join("\n"), enabled], WORDS).run(|input| {
        fs::write(&file, input).unwrap();
        match Config::load(Some(&file), std::iter::empty()) {
            Ok(config) => told(config.check()),
            Err(error) => error.to_string().replace(&*folder.path().to_string_lossy(), ""),
        }
    });
}

#[test]
fn variables() {
    let corpus = [
        "QUORATE_NODE__CAPACITY=10GiB",
        "QUORATE_S3__LISTEN=127.0.0.1:9000",
        "QUORATE_LIMITS__CONNECTIONS_MAX=5",
        "QUORATE_CLUSTER__SEEDS=[\"a:1\"]",
    ];
    Target::text("variables", corpus.map(str::to_owned), WORDS).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        let Some((name, value)) = text.split_once('=') else { return "no variable".to_owned() };
        let variables = [(name.to_owned(), value.to_owned())].into_iter();
        // A path in a variable is opened.
        if name.contains("FILE") {
            return "a file".to_owned();
        }
        match Config::load(None, variables) {
            Ok(config) => told(config.check()),
            Err(error) => error.to_string(),
        }
    });
}

#[test]
fn counts_of_bytes() {
    let corpus = ["64KiB", "1.5GiB", "512", "10 MB"].map(str::to_owned);
    let words = ["KiB", "MB", "TiB", "EiB", ".", "-", "e", " ", "18446744073709551615", "é"];
    Target::text("counts of bytes", corpus, words).run(|input| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        match text.parse::<ByteCount>() {
            Ok(count) => {
                // What is written is rounded, upwards beyond the largest number.
                let again = count.to_string().parse::<ByteCount>();
                assert!(again.is_ok() || count.0 > u64::MAX / 2, "{count}");
                "understood".to_owned()
            }
            Err(error) => error.to_string(),
        }
    });
}
