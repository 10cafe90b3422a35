//! Dates as HTTP, S3's documents and its signatures write them.

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc2822;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::env::UnixMillis;

const HTTP: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);
const ISO: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
const BASIC: &[BorrowedFormatItem<'static>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

fn moment(time: UnixMillis) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.0) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`.
pub(crate) fn http(time: UnixMillis) -> String {
    moment(time).format(HTTP).unwrap_or_default()
}

/// `2015-10-21T07:28:00.000Z`.
pub(crate) fn iso(time: UnixMillis) -> String {
    moment(time).format(ISO).unwrap_or_default()
}

/// Seconds since 1970 of an HTTP date.
pub(crate) fn parse_http(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text.trim(), &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
}

/// Seconds since 1970 of a signature's date, `20151021T072800Z`.
pub(crate) fn parse_basic(text: &str) -> Option<i64> {
    PrimitiveDateTime::parse(text, BASIC).ok().map(|date| date.assume_utc().unix_timestamp())
}

/// `20151021T072800Z` of seconds since 1970.
pub(crate) fn basic(seconds: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()?.format(BASIC).ok()
}

/// Whole seconds since 1970.
pub(crate) fn seconds(time: UnixMillis) -> i64 {
    i64::try_from(time.0 / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{basic, http, iso, parse_basic, parse_http};
    use crate::env::UnixMillis;

    #[test]
    fn every_form_names_the_same_second() {
        let time = UnixMillis(1_445_412_480_123);

        assert_eq!(http(time), "Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(iso(time), "2015-10-21T07:28:00.123Z");
        assert_eq!(parse_http(&http(time)), Some(1_445_412_480));
        assert_eq!(parse_basic("20151021T072800Z"), Some(1_445_412_480));
        assert_eq!(basic(1_445_412_480).as_deref(), Some("20151021T072800Z"));
        assert_eq!(parse_http("yesterday"), None);
        assert_eq!(parse_basic("20151321T072800Z"), None);
    }
}
