//! DeleteObjects: up to 1,000 keys at once, each with its own verdict.

use futures_util::{StreamExt as _, stream};

use crate::replication::Served;
use crate::s3::body::{Unread, read_document};
use crate::s3::call::Call;
use crate::s3::error::{Code, S3Error};
use crate::s3::reply::{self, Reply};
use crate::s3::request::{Request, to_key};
use crate::s3::xml::{self, Element, Xml};

const KEYS_MAX: usize = 1000;
/// 1,000 keys of 1,024 bytes, escaped, and their tags.
const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// So many keys are deleted at the same time.
const CONCURRENCY: usize = 16;

/// DeleteObjects has its parameters in the body.
#[derive(Debug)]
pub(crate) struct DeleteObjects;

pub(super) struct Victim {
    key: String,
    version: Option<String>,
    refusal: Option<S3Error>,
}

impl DeleteObjects {
    pub(crate) fn parse(_request: &Request) -> Result<Self, S3Error> {
        Ok(Self)
    }

    pub(crate) async fn run(self, call: Call, body: Unread) -> Result<Reply, S3Error> {
        if !body.promise.has_checksum() {
            let message = "Missing required header for this request: Content-MD5";
            return Err(S3Error::with(Code::InvalidRequest, message));
        }
        let document = read_document(&mut body.open(), DOCUMENT_BYTES_MAX).await?;
        let (victims, quiet) = parse(&document)?;
        let deleted = stream::iter(victims).map(|victim| delete(&call, victim));
        let mut deleted = deleted.buffered(CONCURRENCY);
        let mut xml = Xml::document("DeleteResult");
        let mut worst = None;
        while let Some((victim, result)) = deleted.next().await {
            match result {
                Ok(served) => {
                    // The answer is as degraded as its most degraded deletion.
                    let before = worst.is_some_and(|worst: Served| worst.degraded);
                    worst = Some(Served { degraded: served.degraded || before, ..served });
                    if !quiet {
                        xml.open("Deleted");
                        name(&mut xml, &victim);
                        xml.close();
                    }
                }
                Err(error) => {
                    xml.open("Error");
                    name(&mut xml, &victim);
                    xml.text("Code", error.code.text()).text("Message", &error.message).close();
                }
            }
        }
        let mut reply = reply::xml(xml);
        if let Some(served) = worst {
            reply::served(&mut reply, served);
        }
        Ok(reply)
    }
}

fn name(xml: &mut Xml, victim: &Victim) {
    xml.text("Key", &victim.key);
    if let Some(version) = &victim.version {
        xml.text("VersionId", version);
    }
}

async fn delete(call: &Call, victim: Victim) -> (Victim, Result<Served, S3Error>) {
    let result = try_delete(call, &victim).await;
    (victim, result)
}

async fn try_delete(call: &Call, victim: &Victim) -> Result<Served, S3Error> {
    if let Some(refusal) = &victim.refusal {
        return Err(refusal.clone());
    }
    let key = to_key(&victim.key)?;
    Ok(call.catalog().delete_object(call.bucket()?, &key).await?)
}

pub(super) fn parse(document: &[u8]) -> Result<(Vec<Victim>, bool), S3Error> {
    let root = xml::parse(document, "Delete")?;
    let quiet = root.child("Quiet").is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
    let victims: Vec<Victim> = root.all("Object").map(victim).collect::<Result<_, _>>()?;
    if victims.is_empty() || victims.len() > KEYS_MAX {
        return Err(Code::MalformedXml.into());
    }
    Ok((victims, quiet))
}

fn victim(object: &Element) -> Result<Victim, S3Error> {
    let key = object.child("Key").ok_or(Code::MalformedXml)?.to_owned();
    let version = object.child("VersionId").filter(|version| !version.is_empty());
    let condition =
        ["ETag", "LastModifiedTime", "Size"].into_iter().find(|name| object.child(name).is_some());
    let refusal = match (condition, version) {
        (Some(condition), _) => Some(S3Error::conditional_write(condition)),
        (None, None | Some("null")) => None,
        (None, Some(_)) => Some(Code::NoSuchVersion.into()),
    };
    Ok(Victim { key, version: version.map(str::to_owned), refusal })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn keys_keep_their_white_space_and_conditions_are_refused_per_key() {
        let text = b"<Delete><Quiet>true</Quiet><Object><Key> a </Key></Object>\
                     <Object><Key>b</Key><ETag>x</ETag></Object></Delete>";

        let (victims, quiet) = parse(text).unwrap();

        assert!(quiet);
        assert_eq!(victims[0].key, " a ");
        assert!(victims[0].refusal.is_none() && victims[1].refusal.is_some());
    }

    #[test]
    fn a_thousand_and_one_keys_are_too_many() {
        let text = format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(1001));

        assert!(parse(text.as_bytes()).is_err());
        assert!(parse(b"<Delete/>").is_err());
    }
}
