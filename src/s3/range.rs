//! Byte ranges (RFC 9110 §14, as S3 applies them; pure).

use std::ops::Range;

/// What a `Range` header asks of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Everything: no range, several ranges, or one that cannot be read, as S3 does.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// 416.
    Unsatisfiable,
}

/// What `header` asks of an object of `size` bytes.
pub(crate) fn parse(header: &str, size: u64) -> Asked {
    let Some((first, last)) = header
        .trim()
        .strip_prefix("bytes=")
        .filter(|ranges| !ranges.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Asked::Whole;
    };
    match (number(first), number(last)) {
        (None, None) => Asked::Whole,
        (None, Some(_)) if !first.is_empty() => Asked::Whole,
        (None, Some(suffix)) => within(size.saturating_sub(suffix)..size),
        (Some(_), None) if !last.is_empty() => Asked::Whole,
        (Some(first), None) => within(first..size),
        (Some(first), Some(last)) if first > last => Asked::Whole,
        (Some(first), Some(last)) => within(first..size.min(last.saturating_add(1))),
    }
}

/// The bytes of `x-amz-copy-source-range`, which names both ends; `None` if it cannot be read.
pub(crate) fn parse_exact(header: &str) -> Option<Range<u64>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then(|| first..last.saturating_add(1))
}

fn within(range: Range<u64>) -> Asked {
    if range.is_empty() { Asked::Unsatisfiable } else { Asked::Part(range) }
}

fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Digits beyond 64 bits mean "very far".
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{Asked, parse, parse_exact};

    #[test]
    fn ranges_as_s3_reads_them() {
        for (header, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=4-7", Asked::Part(4..8)),
            ("bytes=4-", Asked::Part(4..10)),
            ("bytes=4-99999999999999999999999", Asked::Part(4..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=40-50", Asked::Unsatisfiable),
            ("bytes=5-4", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("items=0-1", Asked::Whole),
        ] {
            assert_eq!(parse(header, 10), expected, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Asked::Unsatisfiable);
        assert_eq!(parse("bytes=-1", 0), Asked::Unsatisfiable);
        assert_eq!(parse_exact("bytes=0-9"), Some(0..10));
        assert_eq!(parse_exact("bytes=5-"), None);
        assert_eq!(parse_exact("bytes=5-4"), None);
    }

    proptest! {
        #[test]
        fn what_is_served_lies_within_the_object(header: String, size: u64) {
            for header in [header.clone(), format!("bytes={header}")] {
                if let Asked::Part(range) = parse(&header, size) {
                    prop_assert!(range.start < range.end && range.end <= size);
                }
            }
        }
    }
}
