//! What a key that one client writes may hold, given what that client was told.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::content::Written;

/// A key's content: a write's bytes, or nothing.
pub type Value = Option<Written>;

/// The values that one key may hold.
#[derive(Clone, Debug, Default)]
struct Possible {
    /// The last acknowledged value; a key begins with nothing.
    settled: Value,
    /// Values of operations whose outcome is not known. They stay possible for ever: such an
    /// operation may take effect at any later time.
    uncertain: BTreeSet<Value>,
}

/// What all keys of a run may hold.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    keys: BTreeMap<String, Possible>,
}

impl Expectations {
    /// Notes that `key` was certainly set to `value`.
    pub fn settled(&mut self, key: &str, value: Value) {
        self.keys.entry(key.to_owned()).or_default().settled = value;
    }

    /// Notes that `key` may have been set to `value`, now or later.
    pub fn uncertain(&mut self, key: &str, value: Value) {
        self.keys.entry(key.to_owned()).or_default().uncertain.insert(value);
    }

    /// Which possible value these bytes are.
    ///
    /// # Errors
    /// Says what was expected, if they are none.
    pub fn recognise(&self, key: &str, found: Option<&Bytes>) -> Result<Value, String> {
        let possible = self.keys.get(key).cloned().unwrap_or_default();
        let is_found = |value: &Value| match (value, found) {
            (None, None) => true,
            (Some(written), Some(bytes)) => {
                written.length == bytes.len() && written.bytes() == *bytes
            }
            _ => false,
        };
        if is_found(&possible.settled) {
            return Ok(possible.settled);
        }
        let value = possible.uncertain.iter().find(|value| is_found(value)).copied();
        value.ok_or_else(|| {
            let found = found.map_or_else(|| "nothing".to_owned(), describe);
            let settled = possible.settled.map_or_else(
                || "nothing".to_owned(),
                |w| format!("write {} of {} bytes", w.number, w.length),
            );
            let others = possible.uncertain.len();
            format!("{key} holds {found}; acknowledged was {settled} ({others} uncertain)")
        })
    }

    /// Whether `key` must be there (`Some(true)`), must not (`Some(false)`), or may.
    #[must_use]
    pub fn must_exist(&self, key: &str) -> Option<bool> {
        let Some(possible) = self.keys.get(key) else {
            return Some(false);
        };
        let exists = possible.settled.is_some();
        possible.uncertain.iter().all(|value| value.is_some() == exists).then_some(exists)
    }

    /// Every key that was ever written, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// How many keys must be there.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.keys.keys().filter(|key| self.must_exist(key) == Some(true)).count()
    }
}

fn describe(bytes: &Bytes) -> String {
    let number = bytes.first_chunk::<8>().map(|first| u64::from_be_bytes(*first));
    let number = number.map_or_else(String::new, |number| format!(" that begin as write {number}"));
    format!("{} bytes{number}", bytes.len())
}

#[cfg(test)]
mod tests {
    use super::Expectations;
    use crate::content::Written;

    const ONE: Written = Written { number: 1, length: 100 };
    const TWO: Written = Written { number: 2, length: 100 };

    #[test]
    fn an_acknowledged_write_that_is_gone_is_a_violation() {
        let mut expectations = Expectations::default();
        expectations.settled("k", Some(ONE));

        let error = expectations.recognise("k", None).unwrap_err();

        assert!(error.contains("holds nothing"), "{error}");
        assert!(expectations.recognise("k", Some(&ONE.bytes())).is_ok());
        assert!(expectations.recognise("k", Some(&TWO.bytes())).is_err());
        assert_eq!(expectations.must_exist("k"), Some(true));
    }

    #[test]
    fn an_uncertain_write_may_show_at_any_later_time() {
        let mut expectations = Expectations::default();
        expectations.uncertain("k", Some(ONE));
        expectations.settled("k", Some(TWO));

        assert_eq!(expectations.recognise("k", Some(&ONE.bytes())), Ok(Some(ONE)));
        assert_eq!(expectations.recognise("k", Some(&TWO.bytes())), Ok(Some(TWO)));
        assert!(expectations.recognise("k", None).is_err());
    }

    #[test]
    fn an_uncertain_delete_makes_a_key_optional() {
        let mut expectations = Expectations::default();
        expectations.settled("k", Some(ONE));
        expectations.uncertain("k", None);

        assert_eq!(expectations.must_exist("k"), None);
        assert!(expectations.recognise("k", None).is_ok());
    }

    #[test]
    fn one_changed_byte_is_no_possible_value() {
        let mut expectations = Expectations::default();
        expectations.settled("k", Some(ONE));
        let mut bytes = ONE.bytes().to_vec();
        bytes[99] ^= 1;

        assert!(expectations.recognise("k", Some(&bytes.into())).is_err());
    }
}
