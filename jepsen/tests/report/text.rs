use quorate_jepsen::history::Entry;
use quorate_jepsen::report::text::{LINES_MAX, text};

use super::{report, script, split};

#[test]
fn a_report_reads_like_this() {
    let shown = text(&report("split.jsonl", &split()));

    let expected = "\
VIOLATED: split.jsonl
2.9 s, 5 calls of 5 processes through 3 nodes: 3 served, 1 refused, 1 unknown
PROMISES
  VIOLATED  regular register: keys 1, reads 1, stale reads 1, inversions of reads 0, acknowledged w…
            1 times, as on k: a read saw write 1, though write 3 was written after that and acknowl…
  holds     content: bodies compared 1
  unknown   progress: requests after the faults 0, of these served 0
            doubt: 0 requests began later than that; none was served by nodes [1, 2, 3]
FAULTS: 2, of which 1 did nothing
   1    1.0 -   1.7 s halves all: took effect; n1 0.0 % served | n2 n3 50.0 % served; packets 7
   2    2.7 -   2.7 s pause n2: did NOTHING; stopped 0
SERVED, a column for 1 s; '.' if nobody asked
  faults      | --|
  n1   66.6 % |█▁█|
  n2  100.0 % |.█.|
  n3    0.0 % |.▁.|
LATENCY            served     half     95 %     99 %     most
  read                  1   200 ms   200 ms   200 ms   200 ms
  write                 2   1.0 ms    10 ms    10 ms    10 ms
  99 % 200 ms |▁▁▇|
ERRORS
        1 fail 503 (n1)
        1 info timeout (n3)
";
    assert_eq!(shown, expected);
}

#[test]
fn a_report_of_much_is_still_short_and_obeyed_by_no_terminal() {
    let mut lines = String::new();
    for number in 0..400 {
        let node = number % 12;
        lines += &format!(
            "+2000 nemesis fault{number} {{\"phase\":\"begin\",\"links\":[[1,2],[2,1]]}}\n\
             {number} f{} k{number} {number} node={node}\n{number} fail error=e{}\n\
             x{number} read k{number} node={node}\nx{number} ok {number}\n",
            number % 30,
            "i".repeat(number % 50),
        );
    }
    let mut entries: Vec<Entry> = script::history(&lines);
    for entry in &mut entries {
        entry.error = entry.error.take().map(|error| format!("{error}\u{1b}[2J\n\u{7}"));
    }

    let shown = text(&report("much\u{1b}]0;title", &entries));

    assert!(shown.lines().count() < LINES_MAX, "{}:\n{shown}", shown.lines().count());
    assert!(shown.lines().all(|line| line.chars().count() <= 100));
    assert!(shown.chars().all(|letter| letter == '\n' || !letter.is_control()));
}

#[test]
fn a_report_of_nothing_says_so() {
    let shown = text(&report("empty", &[]));

    assert!(shown.starts_with("unknown: empty\n0.0 s, 0 calls of 0 processes through 0 nodes"));
}
