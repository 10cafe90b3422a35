//! Reads request documents into a small tree; names lose their namespace prefixes.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

use crate::s3::error::{Code, S3Error};

/// Elements may nest this deep; S3's documents need five.
const DEPTH_MAX: usize = 12;
/// A document may have so many elements: 10,000 parts with a handful of fields each.
const ELEMENTS_MAX: usize = 120_000;

/// An element: its text, or its children.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Its name without prefix.
    pub(crate) name: String,
    /// Its own text, white space kept.
    pub(crate) text: String,
    /// Its child elements, in order.
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// The text of the first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.as_str())
    }

    /// All children of that name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// The root element of `document`, whose name must be `root`.
///
/// # Errors
/// MalformedXML for anything that is not one well-formed, harmless document.
pub(crate) fn parse(document: &[u8], root: &str) -> Result<Element, S3Error> {
    let malformed = || S3Error::new(Code::MalformedXml);
    let mut reader = Reader::from_reader(document);
    reader.config_mut().expand_empty_elements = true;
    let mut stack: Vec<Element> = Vec::new();
    let mut found = None;
    let mut elements = 0usize;
    loop {
        match reader.read_event().map_err(|_| malformed())? {
            Event::Start(start) => {
                elements += 1;
                let misplaced = stack.is_empty() && found.is_some();
                if misplaced || stack.len() >= DEPTH_MAX || elements > ELEMENTS_MAX {
                    return Err(malformed());
                }
                let name = std::str::from_utf8(start.local_name().into_inner())
                    .map_err(|_| malformed())?
                    .to_owned();
                stack.push(Element { name, ..Element::default() });
            }
            Event::End(_) => {
                let done = stack.pop().ok_or_else(malformed)?;
                match stack.last_mut() {
                    Some(parent) => parent.children.push(done),
                    None => found = Some(done),
                }
            }
            Event::Text(text) => {
                let text = text.xml_content().map_err(|_| malformed())?;
                push_text(&mut stack, &text)?;
            }
            Event::CData(data) => {
                let text = data.decode().map_err(|_| malformed())?;
                push_text(&mut stack, &text)?;
            }
            Event::GeneralRef(reference) => {
                let c = resolve(&reference).ok_or_else(malformed)?;
                push_text(&mut stack, c.encode_utf8(&mut [0; 4]))?;
            }
            // A document type could define entities: refused.
            Event::DocType(_) => return Err(malformed()),
            Event::Eof => break,
            _ => {}
        }
    }
    let unfinished = !stack.is_empty();
    found.filter(|element| !unfinished && element.name == root).ok_or_else(malformed)
}

fn push_text(stack: &mut [Element], text: &str) -> Result<(), S3Error> {
    match stack.last_mut() {
        Some(element) => element.text.push_str(text),
        None if text.chars().all(|c| c.is_whitespace() || c == '\u{feff}') => {}
        None => return Err(S3Error::new(Code::MalformedXml)),
    }
    Ok(())
}

fn resolve(reference: &BytesRef<'_>) -> Option<char> {
    if let Some(c) = reference.resolve_char_ref().ok()? {
        return Some(c);
    }
    match &**reference {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::parse;

    #[test]
    fn namespaces_entities_and_white_space_are_read_as_clients_mean_them() {
        let text = "<?xml version='1.0'?>\n<d:Delete xmlns:d='x'><Object><Key> a&amp;b&#x41;\
                    <![CDATA[<c>]]></Key></Object><Quiet/></d:Delete>\n";

        let root = parse(text.as_bytes(), "Delete").unwrap();

        assert_eq!(root.all("Object").next().unwrap().child("Key"), Some(" a&bA<c>"));
        assert_eq!(root.child("Quiet"), Some(""));
    }

    #[test]
    fn two_roots_stray_text_document_types_and_deep_nests_are_refused() {
        let deep = format!("<Delete>{}", "<a>".repeat(100));
        for text in [
            "<Delete/><Delete/>",
            "<Delete/>x",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><Delete/>",
            "<Delete>&b;</Delete>",
            "<Delete>",
            "<Other/>",
            "",
            &deep,
        ] {
            assert!(parse(text.as_bytes(), "Delete").is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            drop(parse(&bytes, "Delete"));
        }

        #[test]
        fn what_the_writer_writes_the_reader_reads(key in any::<String>()) {
            let mut xml = crate::s3::xml::Xml::document("Delete");
            xml.text("Key", &key);

            let text = xml.finish();

            // NUL and its like have no legal form in XML; everything else comes back.
            if let Ok(root) = parse(text.as_bytes(), "Delete") {
                prop_assert!(root.child("Key") == Some(key.as_str()));
            } else {
                prop_assert!(key.contains('\0'));
            }
        }
    }
}
