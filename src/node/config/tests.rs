//! What a configuration accepts and how it refuses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{keys_of, sections};
use super::{Config, ConfigError, Secret};
use crate::env::OsEntropy;
use crate::types::ByteCount;

const DOCUMENTED: &str = include_str!("../../../config/quorate.toml");

fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quorate.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let (_folder, path) = written(text);
    let environment = environment.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    Config::load(Some(&path), environment)
}

fn usable() -> Config {
    let mut config = Config::default();
    config.node.name = "n1".to_owned();
    config.cluster.secret = Some(Secret::new("0123456789abcdef"));
    config.admin.token = Some(Secret::new("0123456789abcdef"));
    config.peer.advertise = Some("n1:9002".parse().unwrap());
    config
}

#[test]
fn the_documented_file_is_the_default() {
    assert_eq!(load(DOCUMENTED, &[]).unwrap(), Config::default());
}

#[test]
fn every_key_is_documented() {
    let mut section = "";
    let mut found = Vec::new();
    for line in DOCUMENTED.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let line = line.trim_start_matches("# required: ").trim_start_matches("# ");
        if let Some((key, _)) = line.split_once(" = ") {
            found.push((section, key));
        }
    }
    for section in sections() {
        for key in keys_of(section).unwrap() {
            assert!(found.contains(&(section, key)), "[{section}] {key} is not documented");
        }
    }
}

#[test]
fn the_required_keys_are_enough() {
    usable().check().unwrap();
}

#[test]
fn the_defaults_alone_name_all_that_is_missing() {
    let error = Config::default().check().unwrap_err().to_string();

    for key in ["node.name", "cluster.secret", "admin.token", "peer.advertise"] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    let error = load("[s3]\nregion = \"eu\"\nlistn = \"[::]:9000\"\n", &[]).unwrap_err();

    let text = error.to_string();
    assert!(
        text.ends_with("quorate.toml:3: unknown key 'listn'; did you mean 'listen'?"),
        "{text}"
    );
}

#[test]
fn an_unknown_section_is_refused() {
    let text = load("[limit]\nrequests = 3\n", &[]).unwrap_err().to_string();

    assert!(text.ends_with(":1: unknown section 'limit'; did you mean 'limits'?"), "{text}");
}

#[test]
fn a_wrong_value_names_its_line() {
    let text = load("[limits]\n\nrequest_deadline = \"soon\"\n", &[]).unwrap_err().to_string();

    assert!(text.contains("quorate.toml:3: 'soon' is no duration"), "{text}");
}

#[test]
fn text_that_is_no_toml_names_its_line() {
    let text = load("[node]\nname = n1\n", &[]).unwrap_err().to_string();

    assert!(text.contains("quorate.toml:2: "), "{text}");
}

#[test]
fn the_environment_wins_over_the_file() {
    let environment = [
        ("QUORATE_S3__LISTEN", "127.0.0.1:80"),
        ("QUORATE_STORE__INLINE_MAX", "8KiB"),
        ("QUORATE_CLUSTER__PEERS", "n2:9002, n3:9002"),
        ("QUORATE_CLUSTER__PARTITIONS", "1024"),
        ("QUORATE_LIMITS__REQUEST_DEADLINE", "5s"),
        ("QUORATE_CLUSTER__SECRET", "12345678901234567890"),
        ("QUORATE_ADMIN_URL", "left to the CLI"),
        ("PATH", "/bin"),
    ];

    let config = load("[s3]\nlisten = \"[::]:9000\"\nregion = \"eu\"\n", &environment).unwrap();

    assert_eq!(config.s3.listen.to_string(), "127.0.0.1:80");
    assert_eq!(config.s3.region, "eu");
    assert_eq!(config.store.inline_max, ByteCount::kib(8));
    assert_eq!(config.cluster.peers.len(), 2);
    assert_eq!(config.cluster.partitions, 1024);
    assert_eq!(config.limits.request_deadline, Duration::from_secs(5));
    assert_eq!(config.cluster.secret.unwrap().reveal(), "12345678901234567890");
}

#[test]
fn a_wrong_variable_names_itself() {
    let unknown = load("", &[("QUORATE_S3__REGOIN", "eu")]).unwrap_err().to_string();
    let wrong = load("", &[("QUORATE_LIMITS__REQUESTS", "many")]).unwrap_err().to_string();

    assert_eq!(unknown, "QUORATE_S3__REGOIN: unknown key 'regoin'; did you mean 'region'?");
    assert!(wrong.starts_with("QUORATE_LIMITS__REQUESTS: "), "{wrong}");
}

#[test]
fn a_secret_is_read_from_its_file() {
    let (_folder, path) = written("  0123456789abcdef\n");
    let text = format!("[cluster]\nsecret_file = \"{}\"\n", path.display());

    let config = load(&text, &[]).unwrap();

    assert_eq!(config.cluster.secret.unwrap().reveal(), "0123456789abcdef");
}

#[test]
fn a_secret_is_given_once() {
    let text = "[admin]\ntoken = \"0123456789abcdef\"\ntoken_file = \"/nowhere\"\n";

    assert!(matches!(load(text, &[]), Err(ConfigError::Twice { section: "admin", .. })));
    let config = load(text, &[("QUORATE_ADMIN__TOKEN", "fedcba9876543210")]).unwrap();
    assert_eq!(config.admin.token.unwrap().reveal(), "fedcba9876543210");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/q.toml")), std::iter::empty()).unwrap_err();

    assert!(error.to_string().starts_with("cannot read '/nowhere/q.toml'"), "{error}");
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let refused = |change: fn(&mut Config)| {
        let mut config = usable();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };

    assert!(refused(|c| c.cluster.partitions = 300).contains("300 is no power of two"));
    assert!(refused(|c| c.admin.listen = c.s3.listen).contains("admin.listen: is s3.listen"));
    assert!(refused(|c| c.kv.listen = c.s3.listen).contains("kv.listen: is s3.listen"));
    assert!(refused(|c| c.s3.tls_key = Some("k.pem".into())).contains("need each other"));
    assert!(refused(|c| c.store.inline_max = ByteCount::mib(2)).contains("store.attached_max"));
    assert!(refused(|c| c.log.filter = "quorate=loud".into()).contains("log.filter"));
    assert!(refused(|c| c.limits.requests = 0).contains("limits.requests"));
    assert!(refused(|c| c.node.name = "a b".into()).contains("node.name"));
    assert!(refused(|c| c.cluster.secret = Some(Secret::new("short"))).contains("has 5 bytes"));
    let advertised = |c: &mut Config| c.peer.advertise = "0.0.0.0:9002".parse().ok();
    assert!(refused(advertised).contains("peer.advertise"));
}

#[test]
fn a_development_node_keeps_its_secrets() {
    let folder = tempfile::tempdir().unwrap();

    let (first, credential) = Config::dev(folder.path(), &OsEntropy::new()).unwrap();
    let (second, same) = Config::dev(folder.path(), &OsEntropy::new()).unwrap();

    first.check().unwrap();
    assert_eq!(first, second);
    assert_eq!(credential.secret_access_key, same.secret_access_key);
    assert!(first.s3.listen.ip().is_loopback() && first.peer.listen.ip().is_loopback());
}
