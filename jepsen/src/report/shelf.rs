//! A folder where runs leave what they did: of each its history and its page, and a page that
//! lists them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::markup::Escaped;
use super::page::{STYLE, page};
use super::{Report, mark, word};
use crate::checker::{Finding, Verdict};
use crate::history::Entry;

/// A folder of reports.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
}

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What was run.
    pub name: String,
    /// What came of it, in a few words.
    pub outcome: String,
    /// What that means.
    pub finding: Finding,
    /// The stem of its files, if there are any.
    pub stem: Option<String>,
}

impl Shelf {
    /// The shelf in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where the history of `stem` goes.
    #[must_use]
    pub fn history(&self, stem: &str) -> PathBuf {
        self.folder.join(format!("{stem}.jsonl"))
    }

    /// Writes the page of a run beside its history; where it is.
    ///
    /// # Errors
    /// If it is no history, or the page cannot be written.
    pub fn keep(
        &self,
        stem: &str,
        promised: &str,
        entries: &[Entry],
        verdicts: Vec<Verdict>,
    ) -> anyhow::Result<PathBuf> {
        let mut report = Report::of(stem, entries, verdicts)?;
        report.promised = promised.to_owned();
        let path = self.folder.join(format!("{stem}.html"));
        write(&path, &page(&report))?;
        Ok(path)
    }

    /// Writes the list; where it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn list(&self, title: &str, items: &[Item]) -> anyhow::Result<PathBuf> {
        let path = self.folder.join("index.html");
        write(&path, &index(title, items))?;
        Ok(path)
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

fn index(title: &str, items: &[Item]) -> String {
    let title = Escaped(title);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <main>\n<h1>{title}</h1>\n<table>\n<thead><tr><th>run</th><th>verdict</th>\
         <th>history</th></tr></thead>\n<tbody>\n"
    );
    for Item { name, outcome, finding, stem } in items {
        let (name, outcome) = (Escaped(name), Escaped(outcome));
        let (run, history) = match stem {
            None => (name.to_string(), String::new()),
            Some(stem) => {
                let stem = Escaped(stem);
                let page = format!("<a href=\"{stem}.html\">{name}</a>");
                (page, format!("<a href=\"{stem}.jsonl\">lines</a>"))
            }
        };
        let (class, mark) = (word(*finding).to_lowercase(), mark(*finding));
        text.push_str(&format!(
            "<tr><td>{run}</td><td><span class=\"finding {class}\">{mark}</span> {outcome}</td>\
             <td>{history}</td></tr>\n"
        ));
    }
    text.push_str("</tbody>\n</table>\n</main>\n</body>\n</html>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::{Item, Shelf};
    use crate::checker::Finding;

    #[test]
    fn the_list_leads_to_each_page_and_shows_foreign_words_as_words() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(&folder.path().join("new")).unwrap();
        let item = |name: &str, stem: Option<&str>, finding| Item {
            name: name.to_owned(),
            outcome: "as it was".to_owned(),
            finding,
            stem: stem.map(str::to_owned),
        };

        let path = shelf
            .list(
                "runs",
                &[
                    item("set <p>", Some("set-p-1"), Finding::Violated),
                    item("lww x", None, Finding::Unknown),
                ],
            )
            .unwrap();

        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("<a href=\"set-p-1.html\">set &lt;p&gt;</a>"), "{text}");
        assert!(text.contains("<td>lww x</td>"), "{text}");
        assert!(text.contains("finding violated"), "{text}");
    }
}
