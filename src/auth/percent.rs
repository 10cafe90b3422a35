//! Percent-encoding as signatures and `encoding-type=url` want it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::{AuthCode, AuthError};

/// Everything but RFC 3986's unreserved characters.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// As [`COMPONENT`], but slashes stay.
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

/// Encodes a query name or value.
pub(crate) fn encode_component(out: &mut String, text: &str) {
    out.extend(utf8_percent_encode(text, COMPONENT));
}

/// Encodes a path; slashes stay.
pub(crate) fn encode_path(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// Decodes a path or header; `+` stays.
///
/// # Errors
/// InvalidURI if a `%` is not followed by two hexadecimal digits, or the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Result<String, AuthError> {
    let bytes = text.as_bytes();
    let broken = bytes.iter().enumerate().any(|(at, byte)| {
        let digits = || bytes.get(at + 1..at + 3).unwrap_or_default();
        *byte == b'%' && !(digits().len() == 2 && digits().iter().all(u8::is_ascii_hexdigit))
    });
    if broken {
        return Err(AuthCode::InvalidUri.into());
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| AuthCode::InvalidUri)?;
    Ok(decoded.into_owned())
}

/// Decodes a query name or value; `+` is a space.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_query(text: &str) -> Result<String, AuthError> {
    if text.contains('+') { decode(&text.replace('+', " ")) } else { decode(text) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{decode, decode_query, encode_path};

    #[test]
    fn a_broken_escape_is_an_invalid_uri() {
        for text in ["%", "%4", "%zz", "a%ff"] {
            assert!(decode(text).is_err(), "{text}");
        }
        assert_eq!(decode("a+b%2B").unwrap(), "a+b+");
        assert_eq!(decode_query("a+b%2B").unwrap(), "a b+");
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text: String) {
            prop_assert_eq!(decode(&encode_path(&text)).unwrap(), text);
        }
    }
}
