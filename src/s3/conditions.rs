//! Conditions on reads and copy sources (RFC 9110 §13, as S3 applies them; pure).

use http::HeaderMap;

use crate::catalog::ObjectHead;

use super::dates;

/// What conditions say of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on.
    Holds,
    /// 304 on reads.
    NotModified,
    /// 412.
    Failed,
}

/// Header names of one set of conditions.
struct Names {
    matches: &'static str,
    none_match: &'static str,
    modified: &'static str,
    unmodified: &'static str,
}

const READ: Names = Names {
    matches: "if-match",
    none_match: "if-none-match",
    modified: "if-modified-since",
    unmodified: "if-unmodified-since",
};
const COPY_SOURCE: Names = Names {
    matches: "x-amz-copy-source-if-match",
    none_match: "x-amz-copy-source-if-none-match",
    modified: "x-amz-copy-source-if-modified-since",
    unmodified: "x-amz-copy-source-if-unmodified-since",
};

/// The conditions of a GET or HEAD.
pub(crate) fn of_read(headers: &HeaderMap, head: &ObjectHead) -> Verdict {
    judge(headers, head, &READ)
}

/// The conditions of a copy on its source; what would be 304 is a failure there.
pub(crate) fn of_copy_source(headers: &HeaderMap, head: &ObjectHead) -> Verdict {
    match judge(headers, head, &COPY_SOURCE) {
        Verdict::Holds => Verdict::Holds,
        Verdict::NotModified | Verdict::Failed => Verdict::Failed,
    }
}

/// Whether a range still applies, given `If-Range`.
pub(crate) fn range_applies(headers: &HeaderMap, head: &ObjectHead) -> bool {
    let Some(value) = headers.get("if-range").and_then(|value| value.to_str().ok()) else {
        return true;
    };
    match dates::parse_http(value) {
        Some(date) => dates::seconds(head.modified) <= date,
        None => names_etag(value, &head.etag),
    }
}

fn judge(headers: &HeaderMap, head: &ObjectHead, names: &Names) -> Verdict {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // A date that cannot be read is no condition (RFC 9110 §13.1.3).
    let date = |name: &str| text(name).and_then(dates::parse_http);
    let modified = dates::seconds(head.modified);
    let unchanged = match text(names.matches) {
        Some(tags) => names_etag(tags, &head.etag),
        None => date(names.unmodified).is_none_or(|date| modified <= date),
    };
    if !unchanged {
        return Verdict::Failed;
    }
    let news = match text(names.none_match) {
        Some(tags) => !names_etag(tags, &head.etag),
        None => date(names.modified).is_none_or(|date| modified > date),
    };
    if news { Verdict::Holds } else { Verdict::NotModified }
}

/// Whether a list of entity tags, with or without quotes, names `etag`.
fn names_etag(list: &str, etag: &str) -> bool {
    let plain = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"') == etag;
    list.trim() == "*" || list.split(',').any(plain)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Verdict, of_copy_source, of_read};
    use crate::catalog::ObjectHead;
    use crate::env::UnixMillis;
    use crate::types::Key;

    const BEFORE: &str = "Wed, 21 Oct 2015 07:27:59 GMT";
    const SAME: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

    fn head() -> ObjectHead {
        ObjectHead {
            key: Key::new("k").unwrap(),
            size: 1,
            modified: UnixMillis(1_445_412_480_500),
            etag: "abc".into(),
            headers: vec![],
            checksums: vec![],
            parts: vec![],
        }
    }

    fn judged(pairs: &[(&'static str, &'static str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        of_read(&headers, &head())
    }

    #[test]
    fn each_condition_alone() {
        for (name, value, expected) in [
            ("if-match", "\"abc\"", Verdict::Holds),
            ("if-match", "abc", Verdict::Holds),
            ("if-match", "\"x\", \"abc\"", Verdict::Holds),
            ("if-match", "*", Verdict::Holds),
            ("if-match", "\"x\"", Verdict::Failed),
            ("if-none-match", "\"abc\"", Verdict::NotModified),
            ("if-none-match", "\"x\"", Verdict::Holds),
            ("if-modified-since", SAME, Verdict::NotModified),
            ("if-modified-since", BEFORE, Verdict::Holds),
            ("if-modified-since", "nonsense", Verdict::Holds),
            ("if-unmodified-since", SAME, Verdict::Holds),
            ("if-unmodified-since", BEFORE, Verdict::Failed),
        ] {
            assert_eq!(judged(&[(name, value)]), expected, "{name}: {value}");
        }
    }

    #[test]
    fn tags_overrule_dates() {
        let matched = judged(&[("if-match", "\"abc\""), ("if-unmodified-since", BEFORE)]);
        let news = judged(&[("if-none-match", "\"x\""), ("if-modified-since", SAME)]);

        assert_eq!((matched, news), (Verdict::Holds, Verdict::Holds));
    }

    #[test]
    fn a_copy_source_that_was_not_modified_fails_the_copy() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-copy-source-if-none-match", HeaderValue::from_static("\"abc\""));

        assert_eq!(of_copy_source(&headers, &head()), Verdict::Failed);
    }
}
