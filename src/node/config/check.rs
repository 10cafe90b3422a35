//! What a configuration must say before a node starts with it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::types::ByteCount;

use super::load::ConfigError;
use super::sections::Config;
use super::values::Secret;

/// Shorter secrets can be guessed.
const SECRET_BYTES_MIN: usize = 16;
const PARTITIONS_MAX: u32 = 65_536;
const AUTH_STALE_MIN: Duration = Duration::from_secs(60);

/// A value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `section.key`.
    pub key: &'static str,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, key: &'static str, reason: impl Into<String>) {
        self.0.push(Fault { key, reason: reason.into() });
    }
}

impl Config {
    /// Looks at every value that can be judged without starting.
    ///
    /// # Errors
    /// [`ConfigError::Unusable`] with all faults, not the first alone.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut faults = Faults(Vec::new());
        self.check_names(&mut faults);
        self.check_addresses(&mut faults);
        self.check_tls(&mut faults);
        self.check_amounts(&mut faults);
        match faults.0.is_empty() {
            true => Ok(()),
            false => Err(ConfigError::Unusable(faults.0)),
        }
    }

    fn check_names(&self, faults: &mut Faults) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let named = |name: &str| (1..=64).contains(&name.len()) && name.chars().all(plain);
        let form = "1 to 64 letters, digits, '-', '_' or '.' are needed";
        if !named(&self.node.name) {
            faults.add("node.name", form);
        }
        if !named(&self.node.zone) {
            faults.add("node.zone", form);
        }
        if self.node.data_dir.as_os_str().is_empty() {
            faults.add("node.data_dir", "is empty");
        }
        check_secret(faults, "cluster.secret", self.cluster.secret.as_ref());
        check_secret(faults, "admin.token", self.admin.token.as_ref());
        if !named(&self.s3.region) {
            faults.add("s3.region", form);
        }
        if let Err(error) = EnvFilter::try_new(&self.log.filter) {
            faults.add("log.filter", error.to_string());
        }
        for domain in &self.s3.root_domains {
            let odd = domain.is_empty() || domain.contains([':', '/', '*', ' ']);
            let reason = format!("'{domain}' must be a domain without scheme, port or '*'");
            if odd || domain.starts_with('.') {
                faults.add("s3.root_domains", reason);
            }
        }
    }

    fn check_addresses(&self, faults: &mut Faults) {
        let reachable = match &self.peer.advertise {
            Some(advertised) => !advertised.is_unspecified(),
            None => !self.peer.listen.ip().is_unspecified() && self.peer.listen.port() != 0,
        };
        let reason = "give the host:port under which other nodes reach this one: \
            peer.listen does not say it";
        if !reachable {
            faults.add("peer.advertise", reason);
        }
        let listeners = [
            ("s3.listen", Some(self.s3.listen)),
            ("admin.listen", Some(self.admin.listen)),
            ("s3.tls_listen", self.s3.tls_listen),
            ("kv.listen", Some(self.kv.listen)),
            ("kv.tls_listen", self.kv.tls_listen),
        ];
        let listeners: Vec<(&'static str, SocketAddr)> =
            listeners.into_iter().filter_map(|(key, address)| Some((key, address?))).collect();
        for (position, (key, address)) in listeners.iter().enumerate() {
            let earlier = listeners[..position].iter().find(|(_, other)| collide(*other, *address));
            if let Some((other, _)) = earlier {
                faults.add(key, format!("is {other} already"));
            }
        }
    }

    fn check_tls(&self, faults: &mut Faults) {
        let s3 = &self.s3;
        if s3.tls_cert.is_some() != s3.tls_key.is_some() {
            faults.add("s3.tls_cert", "s3.tls_cert and s3.tls_key need each other");
        }
        let served = s3.tls_listen.is_some() || self.kv.tls_listen.is_some();
        if s3.tls_cert.is_some() && !served {
            faults.add("s3.tls_cert", "s3.tls_listen is not set: nothing would use it");
        }
    }

    fn check_amounts(&self, faults: &mut Faults) {
        let (partitions, store) = (self.cluster.partitions, &self.store);
        let legal = partitions.is_power_of_two() && partitions <= PARTITIONS_MAX;
        let reason = format!("{partitions} is no power of two up to {PARTITIONS_MAX}");
        if !legal {
            faults.add("cluster.partitions", reason);
        }
        let stale_enough = self.cluster.auth_stale_max >= AUTH_STALE_MIN;
        if !stale_enough {
            faults
                .add("cluster.auth_stale_max", "must be 1m at least: members are compared in turn");
        }
        let least = |faults: &mut Faults, key, value: ByteCount, least: ByteCount| {
            if value < least {
                faults.add(key, format!("{value} is less than {least}"));
            }
        };
        let most = |faults: &mut Faults, key, value: ByteCount, most: ByteCount| {
            if value > most {
                faults.add(key, format!("{value} is more than {most}"));
            }
        };
        least(faults, "store.block_cache", store.block_cache, ByteCount::mib(1));
        least(faults, "store.write_buffers", store.write_buffers, ByteCount::mib(4));
        least(faults, "store.segment_size", store.segment_size, ByteCount::mib(1));
        most(faults, "store.segment_size", store.segment_size, ByteCount::gib(2));
        most(faults, "store.inline_max", store.inline_max, ByteCount::kib(256));
        most(faults, "store.attached_max", store.attached_max, ByteCount::mib(3));
        least(faults, "store.attached_max", store.attached_max, store.inline_max);
        let limits = &self.limits;
        least(faults, "limits.body_bytes", limits.body_bytes, ByteCount::mib(8));
        if limits.requests < 1 {
            faults.add("limits.requests", "must be 1 at least");
        }
        if limits.connections < 1 {
            faults.add("limits.connections", "must be 1 at least");
        }
        let grace_min = limits.request_deadline * 2;
        if store.read_grace < grace_min {
            let reason = "must be twice limits.request_deadline at least: readers need that long";
            faults.add("store.read_grace", reason);
        }
        let enough = limits.request_deadline >= Duration::from_secs(1);
        if !enough {
            faults.add("limits.request_deadline", "must be 1s at least");
        }
        if self.repair.interval < Duration::from_secs(1) {
            faults.add("repair.interval", "must be 1s at least");
        }
        if self.repair.purge_lag < limits.request_deadline.saturating_mul(2) {
            let reason = "must be twice limits.request_deadline at least";
            faults.add("repair.purge_lag", reason);
        }
    }
}

fn check_secret(faults: &mut Faults, key: &'static str, secret: Option<&Secret>) {
    let length = secret.map_or(0, |secret| secret.reveal().len());
    let reason = match length {
        0 => "is missing: set it or its _file; make one with: openssl rand -hex 32".to_owned(),
        _ => format!("has {length} bytes; {SECRET_BYTES_MIN} are needed at least"),
    };
    if length < SECRET_BYTES_MIN {
        faults.add(key, reason);
    }
}

/// Whether two listeners would fight for a port.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host =
        one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_host
}
