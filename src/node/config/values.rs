//! Values of configuration keys that have a form of their own.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

/// Text that must not be seen: not in logs, not in errors.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` as a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text. Keep it out of logs and errors.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a peer is reached: a host name or IP address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPort {
    /// A name to be resolved, or an IP address (IPv6 without brackets).
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

/// Text that is no host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no address: write host:port, for instance n2.example.org:9002 or [::1]:9002")]
pub struct InvalidHostPort {
    /// What was given.
    pub text: String,
}

impl HostPort {
    /// Whether the host is `0.0.0.0` or `::`, where nobody can be reached.
    #[must_use]
    pub fn is_unspecified(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }
}

impl FromStr for HostPort {
    type Err = InvalidHostPort;

    fn from_str(text: &str) -> Result<Self, InvalidHostPort> {
        let fault = || InvalidHostPort { text: text.to_owned() };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err(fault()),
                port => Ok(Self { host: address.ip().to_string(), port }),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(fault)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        match port.parse() {
            Ok(port) if port != 0 && !host.is_empty() && host.chars().all(legal) => {
                Ok(Self { host: host.to_owned(), port })
            }
            _ => Err(fault()),
        }
    }
}

impl TryFrom<String> for HostPort {
    type Error = InvalidHostPort;

    fn try_from(text: String) -> Result<Self, InvalidHostPort> {
        text.parse()
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Durations as people write them: `250ms`, `5s`, `1m`, `3h`, `7d`.
pub(super) mod duration {
    use std::time::Duration;

    use super::{Deserialize, Deserializer};

    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

    /// The duration that `text` names: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let fault = || format!("'{text}' is no duration: write for instance 250ms, 5s, 1m or 3h");
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| fault())?;
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(fault)?;
        number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(fault)
    }

    pub(in crate::node::config) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{HostPort, Secret, duration};

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration::parse("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration::parse("3h"), Ok(Duration::from_secs(10_800)));
        assert!(duration::parse("30").unwrap_err().contains("250ms"));
        assert!(duration::parse("-1s").is_err());
        assert!(duration::parse("99999999999999999999d").is_err());
    }

    #[test]
    fn a_peer_has_a_host_and_a_port() {
        let named: HostPort = "n2.example.org:9002".parse().unwrap();
        let six: HostPort = "[::1]:9002".parse().unwrap();

        assert_eq!((named.host.as_str(), named.port), ("n2.example.org", 9002));
        assert_eq!(six.to_string(), "[::1]:9002");
        assert!("n2".parse::<HostPort>().is_err());
        assert!("n2:0".parse::<HostPort>().is_err());
        assert!("http://n2:9002".parse::<HostPort>().is_err());
        assert!("0.0.0.0:9002".parse::<HostPort>().unwrap().is_unspecified());
    }

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", Secret::new("hush")), "Secret(..)");
    }
}
