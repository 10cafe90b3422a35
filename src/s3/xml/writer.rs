//! Writes S3's answers: elements and text, nothing else.

use std::fmt::{Display, Write as _};

/// The namespace of every S3 document.
const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// What every document begins with.
pub(crate) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// A document being written.
#[derive(Debug)]
pub(crate) struct Xml {
    text: String,
    open: Vec<&'static str>,
}

impl Xml {
    /// A document whose root element carries S3's namespace.
    pub(crate) fn document(root: &'static str) -> Self {
        let mut text = String::with_capacity(512);
        text.push_str(DECLARATION);
        text.push('<');
        text.push_str(root);
        text.push_str(" xmlns=\"");
        text.push_str(NAMESPACE);
        text.push_str("\">");
        Self { text, open: vec![root] }
    }

    /// A document whose root element has no namespace, as errors.
    pub(crate) fn bare(root: &'static str) -> Self {
        let text = format!("{DECLARATION}<{root}>");
        Self { text, open: vec![root] }
    }

    /// Opens an element.
    pub(crate) fn open(&mut self, name: &'static str) -> &mut Self {
        let _ = write!(self.text, "<{name}>");
        self.open.push(name);
        self
    }

    /// Closes the element opened last.
    pub(crate) fn close(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            let _ = write!(self.text, "</{name}>");
        }
        self
    }

    /// An element with escaped text.
    pub(crate) fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        let _ = write!(self.text, "<{name}>");
        escape(&mut self.text, value);
        let _ = write!(self.text, "</{name}>");
        self
    }

    /// An element with a number or a truth value.
    pub(crate) fn value(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        let _ = write!(self.text, "<{name}>{value}</{name}>");
        self
    }

    /// An element with an ETag in its quotes.
    pub(crate) fn etag(&mut self, value: &str) -> &mut Self {
        self.text.push_str("<ETag>&quot;");
        escape(&mut self.text, value);
        self.text.push_str("&quot;</ETag>");
        self
    }

    /// Raw text inside the element opened last.
    pub(crate) fn content(&mut self, value: &str) -> &mut Self {
        escape(&mut self.text, value);
        self
    }

    /// An element with S3's type attribute on a grantee.
    pub(crate) fn open_canonical_user(&mut self) -> &mut Self {
        self.text.push_str(
            "<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
             xsi:type=\"CanonicalUser\">",
        );
        self.open.push("Grantee");
        self
    }

    /// Closes what is open and yields the document.
    pub(crate) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.text
    }
}

/// Control characters become numeric references, as AWS writes them, although XML 1.0 readers
/// refuse most: clients with such keys ask for `encoding-type=url`.
fn escape(out: &mut String, value: &str) {
    let mut rest = value;
    // Almost all text has nothing to escape: it is copied in one piece.
    while let Some(at) = rest.find(needs_escape) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = tail.chars();
        match chars.next() {
            Some('&') => out.push_str("&amp;"),
            Some('<') => out.push_str("&lt;"),
            Some('>') => out.push_str("&gt;"),
            Some('"') => out.push_str("&quot;"),
            Some('\'') => out.push_str("&apos;"),
            Some(control) => {
                let _ = write!(out, "&#x{:x};", u32::from(control));
            }
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

const fn needs_escape(c: char) -> bool {
    matches!(
        c,
        '&' | '<' | '>' | '"' | '\'' | '\u{0}'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::Xml;

    #[test]
    fn markup_and_control_characters_in_text_are_escaped() {
        let mut xml = Xml::bare("Error");
        xml.text("Key", "a<b>&\"\u{1}\n");

        let text = xml.finish();

        assert!(text.ends_with("<Error><Key>a&lt;b&gt;&amp;&quot;&#x1;&#xa;</Key></Error>"));
    }
}
