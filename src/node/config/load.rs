//! Reading the file and the environment.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;
use toml::{Table, Value};

use super::check::Fault;
use super::keys::{keys_of, nearest, sections};
use super::sections::Config;
use super::values::Secret;

const PREFIX: &str = "QUORATE_";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read '{}': {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML, or a value has the wrong form.
    #[error("{origin}: {reason}")]
    Malformed {
        /// The file and line, or the variable.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// Nothing reads this key.
    #[error("{origin}: unknown {kind} '{name}'{}", meant(.nearest))]
    Unknown {
        /// The file and line, or the variable.
        origin: String,
        /// `section` or `key`.
        kind: &'static str,
        /// What was written.
        name: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A secret is given twice.
    #[error("[{section}] has both '{key}' and '{key}_file': give one of them")]
    Twice {
        /// The section.
        section: &'static str,
        /// The key without `_file`.
        key: &'static str,
    },
    /// Values that cannot be used, all of them.
    #[error("the configuration cannot be used:{}", list(.0))]
    Unusable(Vec<Fault>),
}

fn meant(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

fn list(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect()
}

impl Config {
    /// Reads the file, if one is given, and then the variables `QUORATE_SECTION__KEY` of
    /// `environment`, which win; reads secrets from their files; does not [`check`](Self::check).
    /// Other variables that begin with `QUORATE_` but have no `__` are left to the CLI.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file and line, or the variable.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = match path {
            Some(path) => read_file(path)?,
            None => Table::new(),
        };
        for (variable, text) in environment {
            override_one(&mut table, &variable, &text)?;
        }
        let mut config = Self::deserialize(Value::Table(table)).map_err(|error| {
            ConfigError::Malformed { origin: "configuration".to_owned(), reason: error.to_string() }
        })?;
        config.read_secrets()?;
        Ok(config)
    }

    fn read_secrets(&mut self) -> Result<(), ConfigError> {
        let Self { cluster, admin, .. } = self;
        read_secret("cluster", "secret", &mut cluster.secret, cluster.secret_file.as_deref())?;
        read_secret("admin", "token", &mut admin.token, admin.token_file.as_deref())
    }
}

fn read_secret(
    section: &'static str,
    key: &'static str,
    secret: &mut Option<Secret>,
    file: Option<&Path>,
) -> Result<(), ConfigError> {
    let Some(path) = file else { return Ok(()) };
    if secret.is_some() {
        return Err(ConfigError::Twice { section, key });
    }
    let text = read(path)?;
    *secret = Some(Secret::new(text.trim()));
    Ok(())
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// The file as a table whose names are known and whose values have the right form.
fn read_file(path: &Path) -> Result<Table, ConfigError> {
    let text = read(path)?;
    let at = |span: Option<std::ops::Range<usize>>| Origin { path, line: line_of(&text, span) };
    let malformed = |error: toml::de::Error| ConfigError::Malformed {
        origin: at(error.span()).to_string(),
        reason: error.message().to_owned(),
    };
    let document = DeTable::parse(&text).map_err(malformed)?;
    for (section, value) in document.get_ref() {
        let origin = at(Some(section.span())).to_string();
        let keys = known_section(section.get_ref(), origin)?;
        let Some(table) = value.get_ref().as_table() else { continue };
        for key in table.keys() {
            known_key(key.get_ref(), keys, at(Some(key.span())).to_string())?;
        }
    }
    // Once as the struct, for errors with a line; once as a table, to be overridden.
    toml::from_str::<Config>(&text).map_err(malformed)?;
    text.parse().map_err(malformed)
}

fn known_section(section: &str, origin: String) -> Result<&'static [&'static str], ConfigError> {
    keys_of(section).ok_or_else(|| ConfigError::Unknown {
        origin,
        kind: "section",
        name: section.to_owned(),
        nearest: nearest(section, sections()),
    })
}

fn known_key(key: &str, keys: &'static [&'static str], origin: String) -> Result<(), ConfigError> {
    if keys.contains(&key) {
        return Ok(());
    }
    let nearest = nearest(key, keys);
    Err(ConfigError::Unknown { origin, kind: "key", name: key.to_owned(), nearest })
}

struct Origin<'a> {
    path: &'a Path,
    line: Option<usize>,
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> Option<usize> {
    let before = text.get(..span?.start)?;
    Some(before.matches('\n').count() + 1)
}

/// Puts the value of `QUORATE_SECTION__KEY` into the table.
fn override_one(table: &mut Table, variable: &str, text: &str) -> Result<(), ConfigError> {
    let Some((section, key)) = variable.strip_prefix(PREFIX).and_then(|name| name.split_once("__"))
    else {
        return Ok(());
    };
    let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    let keys = known_section(&section, variable.to_owned())?;
    known_key(&key, keys, variable.to_owned())?;
    let values = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
    let Some(values) = values.as_table_mut() else { return Ok(()) };
    // A secret from the environment replaces one from a file, and the other way round.
    match key.strip_suffix("_file") {
        Some(secret) => values.remove(secret),
        None => values.remove(&format!("{key}_file")),
    };
    values.insert(key.clone(), value_of(&key, text));
    // Tried at once, so that the error names the variable.
    let alone = Table::from_iter([(section, Value::Table(values.clone()))]);
    match Config::deserialize(Value::Table(alone)) {
        Ok(_) => Ok(()),
        Err(error) => Err(ConfigError::Malformed {
            origin: variable.to_owned(),
            reason: error.message().trim().to_owned(),
        }),
    }
}

/// Variables are text; the keys that are not are known by name.
fn value_of(key: &str, text: &str) -> Value {
    match key {
        "peers" | "root_domains" => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        "partitions" | "requests" | "connections" => {
            text.trim().parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer)
        }
        _ => Value::String(text.to_owned()),
    }
}
