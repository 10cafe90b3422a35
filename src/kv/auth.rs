//! Who calls: a signature as in S3's API, or the two halves of a credential as a bearer token
//! where nobody can listen.

use std::sync::Arc;

use http::header;
use ring::digest::{Digest, SHA256, digest};

use crate::auth::{Authenticated, Authenticator, Head, Payload};
use crate::catalog::{Catalog, Credential};
use crate::http::Caller;

use super::error::{Kind, KvError};

/// Who sent the request, and what its signature says of the body.
///
/// # Errors
/// 401 without any sign of who it is, 403 if the sign is wrong.
pub(super) fn authenticate(
    (catalog, signatures): (&Catalog, &Authenticator),
    head: &Head,
    now: i64,
    caller: Option<Caller>,
) -> Result<Authenticated<Credential>, KvError> {
    let find = |id: &str| catalog.credential(id);
    let signed = head.query.has("X-Amz-Signature") || head.query.has("X-Amz-Credential");
    let value = head.headers.get(header::AUTHORIZATION);
    let Some(value) = value else {
        if signed {
            return Ok(signatures.authenticate(head, now, find)?);
        }
        let message = "say who you are: 'Authorization: Bearer ACCESS_KEY_ID:SECRET_ACCESS_KEY', \
                       or AWS signature version 4";
        return Err(KvError::new(Kind::Unauthenticated, message));
    };
    match bearer(value.as_bytes()) {
        None => Ok(signatures.authenticate(head, now, find)?),
        Some(token) => {
            let credential = borne(token, caller, find)?;
            Ok(Authenticated { credential, payload: Payload::Unsigned })
        }
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

fn borne(
    token: &[u8],
    caller: Option<Caller>,
    find: impl Fn(&str) -> Option<Arc<Credential>>,
) -> Result<Arc<Credential>, KvError> {
    if !caller.is_some_and(|caller| caller.is_private()) {
        let message = "a bearer token is taken over TLS or on the node's own machine only, for \
                       it could be read on the way; sign the request instead";
        return Err(KvError::new(Kind::AccessDenied, message));
    }
    let wrong = || KvError::new(Kind::AccessDenied, "the access key id or the secret is wrong");
    let token = std::str::from_utf8(token).map_err(|_| wrong())?;
    let (id, secret) = token.split_once(':').ok_or_else(|| {
        let message = "a bearer token is ACCESS_KEY_ID:SECRET_ACCESS_KEY";
        KvError::new(Kind::AccessDenied, message)
    })?;
    let credential = find(id).ok_or_else(wrong)?;
    let same = alike(&hash(&credential.secret_access_key), &hash(secret));
    if same { Ok(credential) } else { Err(wrong()) }
}

/// Comparing hashes tells nothing about the secret by its time.
fn hash(text: &str) -> Digest {
    digest(&SHA256, text.as_bytes())
}

fn alike(one: &Digest, other: &Digest) -> bool {
    let pairs = one.as_ref().iter().zip(other.as_ref());
    pairs.fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::{bearer, borne};
    use crate::catalog::{Credential, OwnerId};
    use crate::env::UnixMillis;
    use crate::http::Caller;
    use std::sync::Arc;

    fn find(id: &str) -> Option<Arc<Credential>> {
        let credential = Credential {
            access_key_id: "QK1".into(),
            secret_access_key: "secret".into(),
            owner: OwnerId("o".into()),
            name: "n".into(),
            created: UnixMillis(0),
        };
        (id == "QK1").then(|| Arc::new(credential))
    }

    fn from(address: &str) -> Option<Caller> {
        Some(Caller { address: address.parse().ok(), encrypted: false })
    }

    fn taken(token: &str, caller: Option<Caller>) -> bool {
        borne(token.as_bytes(), caller, find).is_ok()
    }

    #[test]
    fn a_bearer_token_is_taken_where_nobody_can_listen() {
        let encrypted = Caller { address: "192.0.2.1:5".parse().ok(), encrypted: true };

        assert!(taken("QK1:secret", from("127.0.0.1:5")));
        assert!(taken("QK1:secret", from("[::1]:5")));
        assert!(taken("QK1:secret", from("[::ffff:127.0.0.1]:5")));
        assert!(taken("QK1:secret", Some(encrypted)));
        assert!(!taken("QK1:secret", from("192.0.2.1:5")));
        assert!(!taken("QK1:secret", Some(Caller { address: None, encrypted: false })));
        assert!(!taken("QK1:secret", None));
    }

    #[test]
    fn a_wrong_half_is_refused() {
        for wrong in ["QK1:other", "QK2:secret", "QK1", "", ":", "QK1:secret "] {
            assert!(!taken(wrong, from("127.0.0.1:5")), "{wrong}");
        }
    }

    #[test]
    fn the_scheme_is_found_whatever_its_case() {
        assert_eq!(bearer(b"Bearer a:b"), Some(&b"a:b"[..]));
        assert_eq!(bearer(b"bearer  a:b"), Some(&b"a:b"[..]));
        assert_eq!(bearer(b"AWS4-HMAC-SHA256 Credential=x"), None);
        assert_eq!(bearer(b"Bear"), None);
    }
}
