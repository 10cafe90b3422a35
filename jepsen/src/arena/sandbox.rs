//! Namespaces of the runner's own: for processes, mounts and the network.
//!
//! # Invariants
//! 1. Whatever becomes of the runner, the kernel sweeps up: when the first process of the
//!    namespaces ends, the others are killed, and mounts, devices and networks go with them.
//! 2. Outside, nothing changes: no interface, no mount, no rule, no name.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use rustix::process::geteuid;

use super::tool::{exists, run};

/// Set for the process inside.
const INSIDE: &str = "QUORATE_JEPSEN_INSIDE";

/// What must be there, and the Debian package that has it.
const COMMANDS: [(&str, &str); 5] = [
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// Whether this process is inside.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// What this machine lacks for hosts with own addresses; nothing if it lacks nothing.
#[must_use]
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !geteuid().is_root() {
        missing.push("root's privileges".to_owned());
    }
    for (command, package) in COMMANDS {
        if !exists(command) {
            missing.push(format!("the command {command} (Debian: {package})"));
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        missing.push("the device /dev/net/tun".to_owned());
    }
    if missing.is_empty()
        && let Err(error) = run("unshare", &["--net", "--mount", "--pid", "--fork", "true"])
    {
        missing.push(format!("the right to make namespaces: {error}"));
    }
    missing
}

/// Becomes the same program with the same arguments inside new namespaces. Returns only if that
/// fails.
///
/// # Errors
/// Always, if it returns.
pub fn enter() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("this program's path is not known")?;
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "--"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("unshare cannot be run")
}

/// Makes the namespaces fit to work in, once inside.
///
/// # Errors
/// If that is refused.
pub fn furnish() -> anyhow::Result<()> {
    // `ip netns` names namespaces in this folder; here it is one that nobody else sees.
    std::fs::create_dir_all("/run/netns").context("/run/netns cannot be made")?;
    run("mount", &["-t", "tmpfs", "tmpfs", "/run/netns"])?;
    run("ip", &["link", "set", "lo", "up"])
}
