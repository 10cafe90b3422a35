//! The house rules that the compiler does not check: floors, purity, doors to the machine, names
//! and sizes. Reads `src/` as text; the checker itself is tested at the end.

#![expect(clippy::expect_used, reason = "a check that cannot read the sources must fail")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every folder of `src/` and its floor. A folder imports strictly lower floors only, so the
/// table is also the order in which to read the code.
const FLOORS: &[(&str, u32)] = &[
    ("codec", 0),
    ("types", 1),
    ("causality", 2),
    ("ring", 2),
    ("merkle", 2),
    ("env", 2),
    ("consensus", 3),
    ("store", 3),
    ("net", 3),
    ("http", 3),
    ("auth", 3),
    ("membership", 4),
    ("replication", 5),
    ("blob", 6),
    ("catalog", 7),
    ("kv", 8),
    ("s3", 8),
    ("admin", 8),
    ("node", 9),
    ("cli", 10),
    ("main.rs", 11),
];

/// Folders that compute and do nothing else: they run alike in every simulation.
const PURE: &[&str] = &["codec", "types", "causality", "ring", "merkle", "consensus"];

/// Words that have no place in a pure folder.
const IMPURE: &[&str] = &["async", "await", "tokio"];

/// Ways to the disk and the network, which only [`DOORS`] may go.
const MACHINE: &[&str] = &[
    "std::fs",
    "tokio::fs",
    "tokio::net",
    "std::os::unix::net",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];

/// The real implementations of the seams, and what stands outside them: paths or path prefixes.
const DOORS: &[&str] = &[
    "store/folder.rs",
    "store/rocks.rs",
    "membership/identity.rs",
    "net/endpoint.rs",
    "net/quic.rs",
    "http/",
    "node/",
    "cli/",
    "main.rs",
];

/// Names that say nothing: a helper lives with its one user or names its concept.
const GRAB_BAGS: &[&str] = &["utils.rs", "helpers.rs", "common.rs", "misc.rs", "manager.rs"];

/// The most production lines of a file: those before its inline tests.
const LINES_MAX: usize = 600;

/// One file of `src/`.
struct Source {
    /// Its path below `src/`, with slashes.
    path: String,
    /// What it says.
    text: String,
    /// The same without comments and literals; lines stay where they are.
    code: String,
    /// Whether the whole file is compiled for tests only.
    is_test: bool,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code: without_comments_and_literals(text),
            is_test: false,
        }
    }

    /// The folder directly below `src/`, or the file's name if it lies in `src/` itself.
    fn folder(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The code before the inline tests.
    fn production(&self) -> &str {
        if self.is_test {
            return "";
        }
        let mut at = 0;
        let mut lines = self.code.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            let opens_tests =
                lines.peek().is_some_and(|next| next.contains("mod ") && next.contains('{'));
            if line.trim() == "#[cfg(test)]" && opens_tests {
                break;
            }
            at += line.len();
        }
        &self.code[..at]
    }

    fn breach(&self, at: usize, what: &str) -> String {
        let line = self.code[..at].matches('\n').count() + 1;
        format!("src/{}:{line}: {what}", self.path)
    }
}

#[test]
fn the_sources_keep_the_house_rules() {
    let found = breaches(&read_sources());

    assert!(found.is_empty(), "{} breaches:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_architecture_page_names_every_folder() {
    let Ok(page) = fs::read_to_string(root().join("ARCHITECTURE.md")) else { return };

    for folder in read_sources().iter().map(Source::folder).collect::<BTreeSet<_>>() {
        let named = folder.ends_with(".rs") || page.contains(&format!("{folder}/"));
        assert!(named, "ARCHITECTURE.md does not mention {folder}/: describe it there");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read_sources() -> Vec<Source> {
    let mut sources = Vec::new();
    read_folder(&root().join("src"), "", &mut sources);
    mark_tests(&mut sources);
    sources
}

fn read_folder(folder: &Path, below: &str, sources: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).expect("a source folder can be listed");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a source folder can be listed").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
        let name = format!("{below}{name}");
        if path.is_dir() {
            read_folder(&path, &format!("{name}/"), sources);
        } else if has_extension(&name, "rs") {
            let text = fs::read_to_string(&path).expect("a source file can be read");
            sources.push(Source::new(&name, &text));
        }
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

/// Finds the files that are declared as `#[cfg(test)] mod name;`.
fn mark_tests(sources: &mut [Source]) {
    let mut modules = BTreeSet::new();
    for source in sources.iter() {
        let folder = source.path.strip_suffix("mod.rs").map_or_else(
            || source.path.strip_suffix(".rs").map_or(String::new(), |stem| format!("{stem}/")),
            str::to_owned,
        );
        let mut lines = source.code.lines();
        while let Some(line) = lines.next() {
            if line.trim() != "#[cfg(test)]" {
                continue;
            }
            let declared = lines.next().and_then(|next| next.trim().strip_suffix(';'));
            if let Some((_, module)) = declared.and_then(|next| next.split_once("mod ")) {
                modules.insert(format!("{folder}{module}"));
            }
        }
    }
    for source in sources {
        let of = |module: &String| {
            let rest = source.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.is_test = modules.iter().any(of);
    }
}

fn breaches(sources: &[Source]) -> Vec<String> {
    let rules: [fn(&Source) -> Vec<String>; 7] =
        [imports, purity, doors, heads, ancestors, names, sizes];
    sources.iter().flat_map(|source| rules.iter().flat_map(|rule| rule(source))).collect()
}

/// Imports go strictly downwards, or stay in the folder.
fn imports(source: &Source) -> Vec<String> {
    if source.path == "lib.rs" {
        return Vec::new();
    }
    let folder = source.folder();
    let Some(own) = floor(folder) else {
        return vec![source.breach(0, "its folder has no floor: add it to FLOORS")];
    };
    let mut found = Vec::new();
    for (at, target) in imported(&source.code) {
        if target == folder {
            continue;
        }
        match floor(&target) {
            Some(floor) if floor < own => {}
            Some(floor) => found.push(source.breach(
                at,
                &format!("{folder} (F{own}) imports {target} (F{floor}): only lower floors"),
            )),
            // Macros and re-exports of `lib.rs`; there are none, so a folder is misspelt.
            None => found.push(source.breach(at, &format!("imports {target}, which has no floor"))),
        }
    }
    found
}

fn floor(folder: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == folder).map(|(_, floor)| *floor)
}

/// Every `crate::folder` and `quorate::folder` in `code`, groups included, with its place.
fn imported(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate", "quorate"] {
        for at in words(code, root) {
            let Some(rest) = code[at + root.len()..].trim_start().strip_prefix("::") else {
                continue;
            };
            let rest = rest.trim_start();
            let targets = rest.strip_prefix('{').map_or_else(|| vec![rest], group_entries);
            for target in targets {
                found.push((at, target.trim_start().chars().take_while(is_word_char).collect()));
            }
        }
    }
    found.retain(|(_, target): &(usize, String)| !target.is_empty());
    found
}

/// The entries of an import group whose opening brace was just passed.
fn group_entries(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut entries) = (0_u32, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                entries.push(&group[start..at]);
                break;
            }
            ',' if depth == 0 => {
                entries.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    entries
}

/// Pure folders neither wait nor touch the machine.
fn purity(source: &Source) -> Vec<String> {
    if !PURE.contains(&source.folder()) {
        return Vec::new();
    }
    let breach = |word: &str| {
        let at = words(source.production(), word).into_iter();
        let what = format!("{word} in a pure folder: compute here, act in a driver above");
        at.map(|at| source.breach(at, &what)).collect::<Vec<_>>()
    };
    IMPURE.iter().flat_map(|word| breach(word)).collect()
}

/// Files and sockets are opened behind the seams only.
fn doors(source: &Source) -> Vec<String> {
    let is_door = |door: &&str| source.path.starts_with(*door);
    if DOORS.iter().any(is_door) {
        return Vec::new();
    }
    let code = source.production();
    let breach = |way: &&str| {
        let what = format!("{way} outside the seams: use Disk, MetaStore or Transport");
        words(code, way).into_iter().map(|at| source.breach(at, &what)).collect::<Vec<_>>()
    };
    MACHINE.iter().flat_map(breach).collect()
}

/// Every file says at its top what it is for.
fn heads(source: &Source) -> Vec<String> {
    let said = source.text.starts_with("//!");
    if said { Vec::new() } else { vec![source.breach(0, "does not start with //!")] }
}

/// Paths are read without counting.
fn ancestors(source: &Source) -> Vec<String> {
    let at = words(&source.code, "super::super").into_iter();
    at.map(|at| source.breach(at, "super::super: write the path from crate::")).collect()
}

/// No grab bags.
fn names(source: &Source) -> Vec<String> {
    let name = source.path.rsplit('/').next().unwrap_or_default();
    let is_bag = GRAB_BAGS.contains(&name);
    if is_bag { vec![source.breach(0, "says nothing by its name")] } else { Vec::new() }
}

/// One idea each.
fn sizes(source: &Source) -> Vec<String> {
    let lines = source.production().lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![source.breach(0, &format!("{lines} production lines, at most {LINES_MAX}: split it"))]
}

/// Where `word` stands in `code` with no word character beside it.
fn words(code: &str, word: &str) -> Vec<usize> {
    let alone = |at: &usize| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.as_ref().is_some_and(is_word_char) && !after.as_ref().is_some_and(is_word_char)
    };
    code.match_indices(word).map(|(at, _)| at).filter(alone).collect()
}

fn is_word_char(character: &char) -> bool {
    character.is_alphanumeric() || *character == '_'
}

/// Blanks out comments, strings and characters, and keeps every line break.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_word = false;
    while let Some(character) = rest.chars().next() {
        // `r` and `b` open a literal only where they do not end a longer word.
        let skipped = if after_word { quoted_length(rest) } else { literal_length(rest) };
        let skipped = comment_length(rest).or(skipped);
        let length = skipped.unwrap_or(character.len_utf8());
        let (taken, left) = rest.split_at(length);
        if skipped.is_some() {
            code.push(' ');
            code.extend(taken.chars().filter(|character| *character == '\n'));
        } else {
            code.push_str(taken);
        }
        after_word = skipped.is_none() && is_word_char(&character);
        rest = left;
    }
    code
}

fn comment_length(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0_u32;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// The length of a literal that may have a prefix (`b"`, `r#"`, `br"`, `c"`).
fn literal_length(rest: &str) -> Option<usize> {
    let bare = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - bare.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = bare.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let body = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let closed = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix + 1 + hashes + 1 + closed);
    }
    quoted_length(bare).map(|length| prefix + length)
}

/// The length of a plain string or character; none for a lifetime.
fn quoted_length(rest: &str) -> Option<usize> {
    let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''))?;
    if quote == '\'' {
        let mut inner = rest[1..].chars();
        let first = inner.next()?;
        if first != '\\' && inner.next() != Some('\'') {
            return None;
        }
    }
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if character == quote {
            return Some(at + 1);
        }
    }
    Some(rest.len())
}

#[cfg(test)]
mod checker {
    use super::{Source, breaches, mark_tests, without_comments_and_literals};

    fn check(path: &str, text: &str, expected: &[&str]) {
        let mut sources = [Source::new(path, &format!("//! Head.\n{text}"))];
        mark_tests(&mut sources);
        let found = breaches(&sources);
        assert_eq!(found.len(), expected.len(), "{path}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} lacks {expected}");
        }
    }

    #[test]
    fn an_import_from_a_higher_floor_is_found() {
        check("ring/a.rs", "\nuse crate::store::Disk;\n", &["src/ring/a.rs:3: ring (F2) imports"]);
        check("net/a.rs", "fn f() { crate::node::start() }", &["imports node (F9)"]);
        check("net/a.rs", "use crate::{types::{Key, Zone}, kv::Face};", &["imports kv (F8)"]);
        check("net/a.rs", "use crate::{\n  codec, // crate::s3\n  blob,\n};", &["imports blob"]);
        check("cli/a.rs", "use quorate::node::Node;\nuse quorate::main;", &["main, which has no"]);
    }

    #[test]
    fn siblings_on_one_floor_do_not_import_one_another() {
        check("s3/a.rs", "use crate::kv::Face;", &["s3 (F8) imports kv (F8)"]);
        check("ring/a.rs", "use crate::causality::Dot;", &["ring (F2) imports causality (F2)"]);
    }

    #[test]
    fn imports_downwards_and_within_the_folder_are_fine() {
        check("replication/a.rs", "use crate::{codec::Crc32c, net::Call};", &[]);
        check("replication/a/b.rs", "use crate::replication::Level;", &[]);
        check("main.rs", "fn main() { quorate::cli::run() }", &[]);
        check("ring/a.rs", "pub(crate) fn crate_name() {}", &[]);
    }

    #[test]
    fn comments_and_strings_import_nothing() {
        check("ring/a.rs", "// [`x`](crate::store::Disk)\n/// crate::node\n", &[]);
        check("ring/a.rs", "/* crate::s3 /* tokio */ async */", &[]);
        check("ring/a.rs", "const A: &str = \"crate::s3 \\\" async\";", &[]);
        check("ring/a.rs", "const A: &str = r#\"crate::s3 \" async\"#;", &[]);
        check("ring/a.rs", "const A: char = '\"'; use crate::s3::B; // \"", &["imports s3"]);
        check("ring/a.rs", "fn f<'a>(a: &'a u8) { crate::s3::b('a') }", &["imports s3"]);
    }

    #[test]
    fn a_folder_without_a_floor_is_found() {
        check("magic/a.rs", "", &["has no floor"]);
        check("ring/a.rs", "use crate::magic::Wand;", &["imports magic, which has no floor"]);
    }

    #[test]
    fn waiting_in_a_pure_folder_is_found() {
        check("ring/a.rs", "async fn f() {}", &["async in a pure folder"]);
        check("codec/a.rs", "use tokio::sync::mpsc;", &["tokio in a pure folder"]);
        check("store/a.rs", "async fn f() {}", &[]);
        check("ring/a.rs", "fn asynchronous() {}", &[]);
    }

    #[test]
    fn the_machine_is_reached_through_doors_only() {
        check("blob/a.rs", "fn f() { std::fs::read(p) }", &["std::fs outside the seams"]);
        check("types/a.rs", "use std::net::{IpAddr, UdpSocket};", &["UdpSocket outside"]);
        check("net/a.rs", "use std::net::SocketAddr;", &[]);
        check("store/folder.rs", "use std::fs::File;", &[]);
        check("node/config/load.rs", "use std::fs;", &[]);
        check("blob/a.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}", &[]);
    }

    #[test]
    fn files_that_are_compiled_for_tests_only_may_reach_the_machine() {
        let mut sources = [
            Source::new("blob/mod.rs", "//! Head.\n#[cfg(test)]\nmod trials;\n"),
            Source::new("blob/trials.rs", "//! Head.\nuse std::fs;\n"),
            Source::new("blob/trials/deep.rs", "//! Head.\nuse std::fs;\n"),
            Source::new("blob/trialset.rs", "//! Head.\nuse std::fs;\n"),
        ];
        mark_tests(&mut sources);

        let found = breaches(&sources);

        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("trialset"));
    }

    #[test]
    fn missing_heads_counted_paths_and_grab_bags_are_found() {
        let headless = [Source::new("ring/a.rs", "use std::fmt;\n")];
        assert!(breaches(&headless)[0].contains("does not start with //!"));
        check("ring/a.rs", "use super::super::b;", &["super::super"]);
        check("ring/utils.rs", "", &["says nothing"]);
        check("ring/deep/manager.rs", "", &["says nothing"]);
    }

    #[test]
    fn only_production_lines_count_towards_the_size_of_a_file() {
        let lines = "fn f() {}\n".repeat(599);
        check("ring/a.rs", &lines, &[]);
        check("ring/a.rs", &format!("{lines}fn g() {{}}\n"), &["601 production lines"]);
        check("ring/a.rs", &format!("{lines}#[cfg(test)]\nmod tests {{\nfn g() {{}}\n}}\n"), &[]);
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "a /* \n */ b\n\"x\ny\" // z\nc";

        let code = without_comments_and_literals(text);

        assert_eq!(code.lines().count(), text.lines().count());
        assert!(code.ends_with("\nc"));
    }
}
