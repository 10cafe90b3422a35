//! Signature version 4 for a client (docs.aws.amazon.com, "Authenticating requests:
//! using the Authorization header"), with the body left unsigned.

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use ring::hmac;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::env::UnixMillis;
use crate::node::config::Secret;

/// What stands in for the body's hash: the client would spend more on it than on all else.
pub(in crate::cli) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// Signs requests of one credential.
pub(in crate::cli) struct Signer {
    access_key_id: String,
    secret: Secret,
    region: String,
    /// The signing key of a day: it changes once a day.
    today: Mutex<(String, hmac::Key)>,
}

/// The two headers that a signature needs.
pub(in crate::cli) struct Signed {
    /// `x-amz-date`.
    pub(in crate::cli) date: String,
    /// `authorization`.
    pub(in crate::cli) authorization: String,
}

/// What is signed of a request. Path and query are percent-encoded already.
pub(in crate::cli) struct Signable<'a> {
    /// The method.
    pub(in crate::cli) method: &'a str,
    /// The `host` header.
    pub(in crate::cli) host: &'a str,
    /// The path.
    pub(in crate::cli) path: &'a str,
    /// The query, its parameters in order.
    pub(in crate::cli) query: &'a str,
}

impl Signer {
    /// A signer for `region`.
    pub(in crate::cli) fn new(access_key_id: String, secret: Secret, region: String) -> Self {
        let nothing = hmac::Key::new(hmac::HMAC_SHA256, b"");
        let today = Mutex::new((String::new(), nothing));
        Self { access_key_id, secret, region, today }
    }

    /// Signs a request that is sent now.
    pub(in crate::cli) fn sign(
        &self,
        request: &Signable<'_>,
        now: UnixMillis,
    ) -> anyhow::Result<Signed> {
        let seconds = i64::try_from(now.0 / 1_000)?;
        let form = format_description!("[year][month][day]T[hour][minute][second]Z");
        let date = OffsetDateTime::from_unix_timestamp(seconds)?.format(form)?;
        let day = date.get(..8).unwrap_or_default();
        let Signable { method, host, path, query } = request;
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-content-sha256:{UNSIGNED}\n\
             x-amz-date:{date}\n\nhost;x-amz-content-sha256;x-amz-date\n{UNSIGNED}"
        );
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let hash = hex::encode(digest(&SHA256, canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hash}");
        let signature = hex::encode(hmac::sign(&self.key_of(day), text.as_bytes()));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature={signature}",
            self.access_key_id
        );
        Ok(Signed { date, authorization })
    }

    fn key_of(&self, day: &str) -> hmac::Key {
        let mut today = self.today.lock();
        if today.0 != day {
            let first = format!("AWS4{}", self.secret.reveal());
            let first = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
            let steps = [day, &self.region, "s3", "aws4_request"];
            let key = steps.iter().fold(first, |key, step| {
                hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, step.as_bytes()).as_ref())
            });
            *today = (day.to_owned(), key);
        }
        today.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Signable, Signer};
    use crate::env::UnixMillis;
    use crate::node::config::Secret;

    #[test]
    fn the_signature_is_what_botocore_computes() {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
        let signer = Signer::new("AKIAIOSFODNN7EXAMPLE".into(), secret, "us-east-1".into());
        let request = Signable {
            method: "GET",
            host: "127.0.0.1:9000",
            path: "/bucket/a%20b",
            query: "list-type=2&prefix=x",
        };

        // 2013-05-24T00:00:00Z, the day of the examples in the specification.
        let signed = signer.sign(&request, UnixMillis(1_369_353_600_000)).unwrap();

        assert_eq!(signed.date, "20130524T000000Z");
        assert_eq!(
            signed.authorization,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;x-amz-content-sha256;x-amz-date,\
             Signature=e0f44bd50080f70581e1805cb5c404460e28eb9b0d4c79ea4c694da9126edbdf"
        );
    }
}
