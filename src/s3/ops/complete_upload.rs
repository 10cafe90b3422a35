//! CompleteMultipartUpload.

use crate::catalog::{CatalogError, Checksum, ChecksumKind, ListParts};
use crate::replication::Served;
use crate::s3::body::{ALGORITHMS, Unread, header_name, read_document};
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::slow;
use crate::s3::xml::{self, Element, Xml};
use crate::types::{Key, UploadId};

use super::create_upload::{checksum_kind, usual_kind};
use super::upload_part::upload_id;

/// 10,000 parts with a checksum each.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
const PARTS_MAX: usize = 10_000;

/// A part as the client lists it: number, ETag without quotes, checksums.
type Listed = (u16, String, Vec<Checksum>);

/// The parameters of CompleteMultipartUpload.
#[derive(Debug)]
pub(crate) struct CompleteMultipartUpload {
    key: Key,
    upload: UploadId,
    checksum: Option<Checksum>,
    size: Option<u64>,
}

impl CompleteMultipartUpload {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        let size = request.header("x-amz-mp-object-size").map(|text| {
            let message = "Value for x-amz-mp-object-size header is invalid.";
            text.parse().map_err(|_| S3Error::with(Code::InvalidRequest, message))
        });
        let (key, upload) = (request.key()?, upload_id(request)?);
        Ok(Self { key, upload, checksum: demanded(request)?, size: size.transpose()? })
    }

    pub(crate) async fn run(self, call: Call, body: Unread) -> Result<Reply, S3Error> {
        let document = read_document(&mut body.open(), DOCUMENT_BYTES_MAX).await?;
        let parts = parse(&document)?;
        let own = call.clone();
        slow::answer(&call, async move { self.complete(&own, parts).await }).await
    }

    async fn complete(self, call: &Call, parts: Vec<Listed>) -> Result<(Xml, Served), S3Error> {
        let bucket = call.bucket()?;
        let catalog = call.catalog();
        if let Some(size) = self.size {
            self.check_size(call, &parts, size).await?;
        }
        let Self { key, upload, checksum, .. } = self;
        let receipt = catalog.complete_upload(bucket, &key, upload, parts, checksum).await?;
        let mut xml = Xml::document("CompleteMultipartUploadResult");
        let location = format!("http://{}{}", call.request.host, call.request.path);
        xml.text("Location", &location);
        xml.text("Bucket", bucket.name.as_str()).text("Key", key.as_str());
        xml.etag(&receipt.head.etag);
        reply::checksum_elements(&mut xml, &receipt.head.checksums);
        Ok((xml, receipt.served))
    }

    /// Compares the sizes of the listed parts with `x-amz-mp-object-size`. A repetition of a
    /// completion finds no upload any more and gets its first answer.
    async fn check_size(&self, call: &Call, listed: &[Listed], size: u64) -> Result<(), S3Error> {
        let (mut after, mut sum) = (0, 0u64);
        loop {
            let request = ListParts { after, max: 1000 };
            let page = match call
                .catalog()
                .list_parts(call.bucket()?, &self.key, self.upload, request)
                .await
            {
                Err(CatalogError::NoSuchUpload) => return Ok(()),
                page => page?,
            };
            for part in &page.parts {
                if listed.iter().any(|(number, ..)| *number == part.number) {
                    sum = sum.saturating_add(part.size);
                }
                after = part.number;
            }
            if !page.truncated || page.parts.is_empty() {
                break;
            }
        }
        if sum == size {
            return Ok(());
        }
        let message = format!(
            "The provided 'x-amz-mp-object-size' header value {size} does not match what was \
             computed: {sum}"
        );
        Err(S3Error::with(Code::InvalidRequest, message))
    }
}

/// The checksum that the headers demand of the object.
fn demanded(request: &Request) -> Result<Option<Checksum>, S3Error> {
    let kind = checksum_kind(request)?;
    let mut given = ALGORITHMS.into_iter().filter_map(|algorithm| {
        let value = request.header(header_name(algorithm))?.to_owned();
        let composite = value.contains('-');
        let usual = if composite { ChecksumKind::Composite } else { usual_kind(algorithm) };
        Some(Checksum { algorithm, kind: kind.unwrap_or(usual), value })
    });
    let first = given.next();
    if given.next().is_some() {
        let message = "Expecting a single x-amz-checksum- header. Multiple checksum Types are \
                       not allowed.";
        return Err(S3Error::with(Code::InvalidRequest, message));
    }
    Ok(first)
}

pub(super) fn parse(document: &[u8]) -> Result<Vec<Listed>, S3Error> {
    let root = xml::parse(document, "CompleteMultipartUpload")?;
    let parts: Vec<Listed> = root.all("Part").map(part).collect::<Result<_, _>>()?;
    if parts.is_empty() || parts.len() > PARTS_MAX {
        return Err(Code::MalformedXml.into());
    }
    if !parts.is_sorted_by(|one, other| one.0 < other.0) {
        return Err(Code::InvalidPartOrder.into());
    }
    Ok(parts)
}

fn part(part: &Element) -> Result<Listed, S3Error> {
    let number = part.child("PartNumber").ok_or(Code::MalformedXml)?.trim();
    let number = number.parse::<i64>().map_err(|_| Code::MalformedXml)?;
    let number = u16::try_from(number).ok().filter(|number| (1..=10_000).contains(number));
    let number = number.ok_or_else(|| {
        let message = "Part number must be an integer between 1 and 10000, inclusive";
        S3Error::argument("partNumber", "", message)
    })?;
    let etag = part.child("ETag").ok_or(Code::MalformedXml)?.trim().trim_matches('"').to_owned();
    let names =
        ["ChecksumCRC32", "ChecksumCRC32C", "ChecksumCRC64NVME", "ChecksumSHA1", "ChecksumSHA256"];
    let checksum = |(algorithm, name): (_, &str)| {
        let value = part.child(name)?.trim().to_owned();
        Some(Checksum { algorithm, kind: ChecksumKind::FullObject, value })
    };
    let checksums = ALGORITHMS.into_iter().zip(names).filter_map(checksum).collect();
    Ok((number, etag, checksums))
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn parts(text: &str) -> String {
        format!("<CompleteMultipartUpload>{text}</CompleteMultipartUpload>")
    }

    #[test]
    fn etags_come_with_or_without_quotes() {
        let text = parts(
            "<Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part>\
             <Part><ETag>b</ETag><PartNumber>3</PartNumber><ChecksumCRC32>x</ChecksumCRC32></Part>",
        );

        let parsed = parse(text.as_bytes()).unwrap();

        assert_eq!((parsed[0].0, &*parsed[0].1), (1, "a"));
        assert_eq!((parsed[1].0, &*parsed[1].1, parsed[1].2.len()), (3, "b", 1));
    }

    #[test]
    fn disorder_and_repetition_are_refused() {
        for order in ["2 1", "1 1"] {
            let text: String = order
                .split(' ')
                .map(|n| format!("<Part><PartNumber>{n}</PartNumber><ETag>a</ETag></Part>"))
                .collect();
            assert_eq!(parse(parts(&text).as_bytes()).unwrap_err().code.text(), "InvalidPartOrder");
        }
        assert!(parse(parts("").as_bytes()).is_err());
    }
}
