//! What a signature says of itself: who signed, for which day, region and service.

use super::error::{AuthCode, AuthError};
use super::head::Head;

/// The only algorithm of version 4 served here.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// More signed headers than any client sends; bounds the work on a hostile one.
const SIGNED_HEADERS_MAX: usize = 128;

/// `AKID/20130524/us-east-1/s3/aws4_request`, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope<'a> {
    /// The access key id.
    pub(super) access_key_id: &'a str,
    /// The day, `20130524`.
    pub(super) day: &'a str,
    /// The region.
    pub(super) region: &'a str,
    /// Day, region, service and terminator, as signed.
    pub(super) text: &'a str,
}

impl<'a> Scope<'a> {
    fn parse(credential: &'a str) -> Option<Self> {
        // An access key id may hold slashes; the rest may not.
        let mut parts = credential.rsplitn(5, '/');
        let (terminator, service) = (parts.next()?, parts.next()?);
        let (region, day, access_key_id) = (parts.next()?, parts.next()?, parts.next()?);
        let day_is_plain = day.len() == 8 && day.bytes().all(|byte| byte.is_ascii_digit());
        if terminator != "aws4_request" || service != "s3" || !day_is_plain {
            return None;
        }
        let text = credential.get(access_key_id.len() + 1..)?;
        Some(Self { access_key_id, day, region, text })
    }
}

/// A signature and what it covers.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    /// Who signed, and for what.
    pub(super) scope: Scope<'a>,
    /// Names of the signed headers, lower case, in the order signed.
    pub(super) signed: Vec<&'a str>,
    /// The signature, hexadecimal.
    pub(super) signature: &'a str,
}

impl<'a> Claim<'a> {
    /// The claim of an `Authorization` header.
    ///
    /// # Errors
    /// AuthorizationHeaderMalformed.
    pub(super) fn of_header(value: &'a str) -> Result<Self, AuthError> {
        let malformed = |what: &str| {
            let message = format!("The authorization header is malformed; {what}.");
            AuthError::with(AuthCode::AuthorizationHeaderMalformed, message)
        };
        let fields = value.strip_prefix(ALGORITHM).unwrap_or_default();
        let field = |name: &str| {
            let mut fields = fields.split(',').map(str::trim);
            fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
        };
        let missing = |name: &str| malformed(&format!("{name} is missing"));
        let credential = field("Credential").ok_or_else(|| missing("the Credential"))?;
        let signed = field("SignedHeaders").ok_or_else(|| missing("the list SignedHeaders"))?;
        let signature = field("Signature").ok_or_else(|| missing("the Signature"))?;
        let scope = Scope::parse(credential).ok_or_else(|| {
            malformed("the Credential is mal-formed; expecting \"<AKID>/YYYYMMDD/REGION/s3/aws4_request\"")
        })?;
        let signed = split_signed(signed).ok_or_else(|| malformed("too many signed headers"))?;
        Ok(Self { scope, signed, signature })
    }

    /// The claim of a presigned URL.
    ///
    /// # Errors
    /// AuthorizationQueryParametersError.
    pub(super) fn of_query(request: &'a Head) -> Result<Self, AuthError> {
        let malformed = |what: &str| {
            AuthError::with(AuthCode::AuthorizationQueryParametersError, what.to_owned())
        };
        let parameter = |name: &str| {
            request.query.get(name).filter(|value| !value.is_empty()).ok_or_else(|| {
                malformed(
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, \
                     X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and \
                     X-Amz-Expires parameters.",
                )
            })
        };
        if parameter("X-Amz-Algorithm")? != ALGORITHM {
            return Err(malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
        }
        let scope = Scope::parse(parameter("X-Amz-Credential")?).ok_or_else(|| {
            malformed(
                "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; \
                 expecting \"<AKID>/YYYYMMDD/REGION/s3/aws4_request\".",
            )
        })?;
        let signed = split_signed(parameter("X-Amz-SignedHeaders")?)
            .ok_or_else(|| malformed("X-Amz-SignedHeaders names too many headers"))?;
        Ok(Self { scope, signed, signature: parameter("X-Amz-Signature")? })
    }
}

fn split_signed(list: &str) -> Option<Vec<&str>> {
    let names: Vec<&str> = list.split(';').take(SIGNED_HEADERS_MAX + 1).collect();
    (names.len() <= SIGNED_HEADERS_MAX).then_some(names)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::Claim;

    #[test]
    fn spaces_after_the_commas_are_optional() {
        for gap in ["", " "] {
            let header = format!(
                "AWS4-HMAC-SHA256 Credential=AK/20130524/us-east-1/s3/aws4_request,{gap}\
                 SignedHeaders=host;range,{gap}Signature=abc"
            );

            let claim = Claim::of_header(&header).unwrap();

            assert_eq!((claim.scope.access_key_id, claim.scope.region), ("AK", "us-east-1"));
            assert_eq!(claim.scope.text, "20130524/us-east-1/s3/aws4_request");
            assert_eq!((claim.signed, claim.signature), (vec!["host", "range"], "abc"));
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(rest: String) {
            drop(Claim::of_header(&format!("AWS4-HMAC-SHA256 {rest}")));
            drop(Claim::of_header(&format!("AWS4-HMAC-SHA256 Credential={rest},SignedHeaders=,Signature=")));
        }
    }
}
