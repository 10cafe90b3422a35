//! What all listings share: prefix, delimiter, page size, encoding, opaque tokens.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::catalog::{BucketRecord, ListEntry, ListObjects, ListPage, ObjectHead};
use crate::codec::Crc32c;
use crate::replication::Served;
use crate::s3::body;
use crate::s3::call::Call;
use crate::s3::dates;
use crate::s3::error::S3Error;
use crate::s3::percent;
use crate::s3::reply;
use crate::s3::request::Request;
use crate::s3::xml::Xml;

/// AWS's limit for one page.
const PAGE_MAX: u32 = 1000;
/// Format of continuation tokens.
const TOKEN_FORMAT: u8 = 1;

/// How names are written in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As they are.
    Plain,
    /// Percent-encoded (`encoding-type=url`), for names that XML cannot carry.
    Url,
}

impl Encoding {
    /// What `request` asks for.
    ///
    /// # Errors
    /// InvalidArgument.
    pub(super) fn parse(request: &Request) -> Result<Self, S3Error> {
        match request.query.get("encoding-type") {
            None | Some("") => Ok(Self::Plain),
            Some(text) if text.eq_ignore_ascii_case("url") => Ok(Self::Url),
            Some(other) => {
                let message = "Invalid Encoding Method specified in Request";
                Err(S3Error::argument("encoding-type", other, message))
            }
        }
    }

    /// The text as it is written.
    pub(super) fn show(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Plain => Cow::Borrowed(text),
            Self::Url => Cow::Owned(percent::encode_path(text)),
        }
    }

    /// Says so in the document.
    pub(super) fn declare(self, xml: &mut Xml) {
        if self == Self::Url {
            xml.text("EncodingType", "url");
        }
    }
}

/// The parameters that listings of keys share.
#[derive(Debug)]
pub(super) struct Listing {
    /// Only names that begin so.
    pub(super) prefix: String,
    /// Groups names; not empty.
    pub(super) delimiter: Option<String>,
    /// At most so many lines.
    pub(super) max: usize,
    /// How names are written.
    pub(super) encoding: Encoding,
}

impl Listing {
    /// The parameters in `request`; `max` is the page size's name.
    ///
    /// # Errors
    /// InvalidArgument.
    pub(super) fn parse(request: &Request, max: &str) -> Result<Self, S3Error> {
        let text = |name: &str| request.query.get(name).unwrap_or_default().to_owned();
        Ok(Self {
            prefix: text("prefix"),
            delimiter: Some(text("delimiter")).filter(|delimiter| !delimiter.is_empty()),
            max: request.number(max)?.unwrap_or(PAGE_MAX).min(PAGE_MAX) as usize,
            encoding: Encoding::parse(request)?,
        })
    }

    /// The page after `after`.
    ///
    /// # Errors
    /// The catalogue's.
    pub(super) async fn page(&self, call: &Call, after: Bytes) -> Result<ListPage, S3Error> {
        let bucket = call.bucket()?;
        if self.max == 0 {
            // Nothing was read, so the bucket's level is all that can be said of the answer.
            let served = Served { level: bucket.level, degraded: false };
            return Ok(ListPage { entries: Vec::new(), next: None, served });
        }
        let request = ListObjects {
            prefix: Bytes::from(self.prefix.clone()),
            delimiter: self.delimiter.clone().map(Bytes::from),
            after,
            max: self.max,
        };
        Ok(call.catalog().list_objects(bucket, &request).await?)
    }

    /// The elements that repeat the request.
    pub(super) fn repeat(&self, xml: &mut Xml, bucket: &BucketRecord) {
        xml.text("Name", bucket.name.as_str()).text("Prefix", &self.encoding.show(&self.prefix));
        if let Some(delimiter) = &self.delimiter {
            xml.text("Delimiter", &self.encoding.show(delimiter));
        }
    }

    /// Common prefixes, behind the objects.
    pub(super) fn prefixes<'a>(&self, xml: &mut Xml, prefixes: impl Iterator<Item = &'a Bytes>) {
        for prefix in prefixes {
            let prefix = String::from_utf8_lossy(prefix);
            xml.open("CommonPrefixes").text("Prefix", &self.encoding.show(&prefix)).close();
        }
    }
}

/// The common prefixes of a page.
pub(super) fn prefixes(page: &ListPage) -> impl Iterator<Item = &Bytes> {
    page.entries.iter().filter_map(|entry| match entry {
        ListEntry::CommonPrefix(prefix) => Some(prefix),
        ListEntry::Object(_) => None,
    })
}

/// The objects of a page.
pub(super) fn objects(page: &ListPage) -> impl Iterator<Item = &ObjectHead> {
    page.entries.iter().filter_map(|entry| match entry {
        ListEntry::Object(head) => Some(head),
        ListEntry::CommonPrefix(_) => None,
    })
}

/// What the client sends back as marker to go on: the last line's name.
pub(super) fn next_marker(page: &ListPage) -> Option<String> {
    let next = page.next.as_ref()?;
    let name = match page.entries.last() {
        Some(ListEntry::Object(head)) => head.key.as_bytes(),
        Some(ListEntry::CommonPrefix(prefix)) => prefix,
        None => next,
    };
    Some(String::from_utf8_lossy(name).into_owned())
}

/// `Owner`, with the id for both names: S3 no longer tells display names.
pub(super) fn owner(xml: &mut Xml, element: &'static str, bucket: &BucketRecord) {
    let owner = &bucket.owner.0;
    xml.open(element).text("ID", owner).text("DisplayName", owner).close();
}

/// What every listing says of an object after its key.
pub(super) fn describe(xml: &mut Xml, head: &ObjectHead) {
    xml.text("LastModified", &dates::iso(head.modified)).etag(&head.etag);
    for sum in &head.checksums {
        xml.text("ChecksumAlgorithm", body::algorithm_name(sum.algorithm));
    }
    if let Some(sum) = head.checksums.first() {
        xml.text("ChecksumType", reply::kind_name(sum.kind));
    }
    xml.value("Size", head.size);
}

/// An opaque token for a position.
pub(super) fn encode_token(position: &[u8]) -> String {
    let mut raw = vec![TOKEN_FORMAT];
    raw.extend_from_slice(&Crc32c::of(position).0.to_le_bytes());
    raw.extend_from_slice(position);
    URL_SAFE_NO_PAD.encode(raw)
}

/// The position that a token was made for.
///
/// # Errors
/// InvalidArgument for anything that no node of ours made.
pub(super) fn decode_token(token: &str) -> Result<Bytes, S3Error> {
    let wrong = || {
        let message = "The continuation token provided is incorrect";
        S3Error::argument("continuation-token", token, message)
    };
    let raw = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    let (format, rest) = raw.split_first().ok_or_else(wrong)?;
    let (sum, position) = rest.split_first_chunk::<4>().ok_or_else(wrong)?;
    let whole = Crc32c(u32::from_le_bytes(*sum)).matches(position);
    if *format != TOKEN_FORMAT || !whole {
        return Err(wrong());
    }
    Ok(Bytes::copy_from_slice(position))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{decode_token, encode_token};

    #[test]
    fn a_token_that_was_tampered_with_is_refused() {
        let token = encode_token(b"photos/1");

        assert!(decode_token(&token[1..]).is_err());
        assert!(decode_token(&token.replace('c', "d")).is_err() || !token.contains('c'));
        assert!(decode_token("").is_err());
        assert!(decode_token("photos/1").is_err());
    }

    proptest! {
        #[test]
        fn tokens_bring_back_any_position(position: Vec<u8>, garbage: String) {
            prop_assert_eq!(&decode_token(&encode_token(&position)).unwrap()[..], &position[..]);
            drop(decode_token(&garbage));
        }
    }
}
