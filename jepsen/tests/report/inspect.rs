use std::fs;

use clap::Parser;
use quorate_jepsen::inspect::Inspect;

use super::script::history;

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    inspect: Inspect,
}

/// The exit status of a command on the history that `text` tells; `FILE` stands for it.
fn status(text: &str, command: &str) -> u8 {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl");
    let entries = history(text);
    let lines = entries.iter().map(|entry| serde_json::to_string(entry).unwrap() + "\n");
    fs::write(&file, lines.collect::<String>()).unwrap();
    let words = command.split(' ').map(|word| match word {
        "FILE" => file.display().to_string(),
        word => word.replace("OUT", &folder.path().display().to_string()),
    });
    let line = Line::try_parse_from(std::iter::once("test".to_owned()).chain(words));
    let status = line.unwrap().inspect.run();
    for word in command.split(' ').filter(|word| word.starts_with("OUT")) {
        let made = word.replace("OUT", &folder.path().display().to_string());
        assert!(fs::exists(made).unwrap(), "{word}");
    }
    status
}

const RIGHT: &str = "1 write k 1\n1 ok\n2 read k\n2 ok 1";
const STALE: &str = "1 write k 1\n1 ok\n1 write k 2\n1 ok\n2 read k\n2 ok 1";
const SILENT: &str = "1 write k 1\n1 ok";

#[test]
fn the_exit_status_tells_what_was_found() {
    for command in ["check FILE --workload register", "report FILE --html OUT/page.html"] {
        assert_eq!(status(RIGHT, command), 0, "{command}");
        assert_eq!(status(STALE, command), 1, "{command}");
        assert_eq!(status(SILENT, command), 2, "{command}");
    }
}

#[test]
fn a_history_is_held_to_what_was_promised() {
    let finals = "\nnemesis final-reads {\"phase\":\"begin\"}\n3 read k\n3 ok 2";
    let stale = format!("{STALE}{finals}");

    assert_eq!(status(&stale, "check FILE --workload lww --skew-ms 0"), 0);
    assert_eq!(status(&stale, "check FILE --workload register"), 1);
    assert_eq!(status(&stale, "check FILE --promise eventual"), 0);
    assert_eq!(status(RIGHT, "check FILE --promise strong"), 0);
}

#[test]
fn what_is_no_history_is_not_known_to_hold() {
    let line = Line::try_parse_from(["test", "check", "/dev/null/none"]);

    assert_eq!(line.unwrap().inspect.run(), 2);
}

#[test]
fn an_export_writes_every_form_that_was_asked_for_and_asks_for_one() {
    let both = "export FILE --edn OUT/history.edn --porcupine OUT/logs";

    assert_eq!(status(RIGHT, both), 0);
    assert!(Line::try_parse_from(["test", "export", "history.jsonl"]).is_err());
}
