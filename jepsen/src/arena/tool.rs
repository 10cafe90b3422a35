//! Commands of the system.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

/// Runs a command and waits for it.
///
/// # Errors
/// If it cannot be run or fails, with what it said.
pub(super) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {} failed ({}): {}",
        arguments.join(" "),
        output.status,
        said.trim()
    );
    Ok(())
}

/// Whether there is such a command.
#[must_use]
pub(super) fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::{exists, run};

    #[test]
    fn a_command_that_fails_says_why() {
        let error = run("sh", &["-c", "echo the disk is full >&2; exit 3"]).err().unwrap();

        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert!(run("true", &[]).is_ok());
    }

    #[test]
    fn a_command_is_looked_for_on_the_path() {
        assert!(exists("sh"));
        assert!(!exists("no-such-command-anywhere"));
    }
}
