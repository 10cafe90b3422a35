//! GetObjectAttributes.

use crate::catalog::ObjectHead;
use crate::s3::body::Unread;
use crate::s3::call::Call;
use crate::s3::error::S3Error;
use crate::s3::reply::{self, Reply};
use crate::s3::request::Request;
use crate::s3::xml::Xml;
use crate::types::Key;

use super::get_object::check_version;

/// AWS's limit for one page of parts.
const PAGE_MAX: usize = 1000;
/// What can be asked for.
const ATTRIBUTES: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];

/// The parameters of GetObjectAttributes.
#[derive(Debug)]
pub(crate) struct GetObjectAttributes {
    key: Key,
    wanted: Vec<&'static str>,
    max: usize,
    after: usize,
}

impl GetObjectAttributes {
    pub(crate) fn parse(request: &Request) -> Result<Self, S3Error> {
        check_version(request)?;
        let mut wanted = Vec::new();
        for value in request.headers.get_all("x-amz-object-attributes") {
            for name in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                let known = ATTRIBUTES.into_iter().find(|known| *known == name);
                wanted.push(known.ok_or_else(|| {
                    let message = "Invalid attribute name specified.";
                    S3Error::argument("x-amz-object-attributes", name, message)
                })?);
            }
        }
        if wanted.is_empty() {
            let message = "The x-amz-object-attributes header specifying the attributes to be \
                           retrieved is either missing or empty";
            return Err(S3Error::argument("x-amz-object-attributes", "", message));
        }
        let max = number(request, "x-amz-max-parts")?.unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let after = number(request, "x-amz-part-number-marker")?.unwrap_or(0);
        Ok(Self { key: request.key()?, wanted, max, after })
    }

    pub(crate) async fn run(self, call: Call, _body: Unread) -> Result<Reply, S3Error> {
        let (head, served) = call.catalog().head_object(call.bucket()?, &self.key).await?;
        let mut xml = Xml::document("GetObjectAttributesResponse");
        let wants = |name: &str| self.wanted.contains(&name);
        if wants("ETag") {
            // Without quotes here, alone among S3's documents.
            xml.text("ETag", &head.etag);
        }
        if wants("Checksum") && !head.checksums.is_empty() {
            xml.open("Checksum");
            reply::checksum_elements(&mut xml, &head.checksums);
            xml.close();
        }
        if wants("ObjectParts") && !head.parts.is_empty() {
            self.parts(&mut xml, &head);
        }
        if wants("StorageClass") {
            xml.text("StorageClass", "STANDARD");
        }
        if wants("ObjectSize") {
            xml.value("ObjectSize", head.size);
        }
        let mut reply = reply::xml(xml);
        reply::last_modified(&mut reply, head.modified);
        reply::served(&mut reply, served);
        Ok(reply)
    }

    fn parts(&self, xml: &mut Xml, head: &ObjectHead) {
        let later = head.parts.iter().filter(|part| usize::from(part.number) > self.after);
        let page: Vec<_> = later.clone().take(self.max).collect();
        let last = page.last().map_or(self.after, |part| usize::from(part.number));
        xml.open("ObjectParts").value("PartsCount", head.parts.len());
        xml.value("PartNumberMarker", self.after).value("NextPartNumberMarker", last);
        xml.value("MaxParts", self.max).value("IsTruncated", later.count() > page.len());
        // AWS lists parts only where they have checksums to show.
        for part in page.iter().filter(|part| !part.checksums.is_empty()) {
            xml.open("Part").value("PartNumber", part.number).value("Size", part.size);
            for sum in &part.checksums {
                reply::part_checksum_element(xml, sum);
            }
            xml.close();
        }
        xml.close();
    }
}

fn number(request: &Request, name: &str) -> Result<Option<usize>, S3Error> {
    let Some(text) = request.header(name) else { return Ok(None) };
    let wrong = || S3Error::argument(name, text, format!("{name} must be a number"));
    text.parse().map(Some).map_err(|_| wrong())
}
