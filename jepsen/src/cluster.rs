//! Real `quorate server` processes, and what can be done to them.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use quorate::env::{Clock, OsClock};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::client::Client;
use crate::folder::Folder;
use crate::place::{Place, REGION, TOKEN, Tuning};
use crate::sign::Credentials;

/// How long a node may take to start.
const START_PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    place: Place,
    child: Option<Child>,
}

/// A running cluster in a temporary folder. Dropping it kills its processes; the folder goes
/// too, unless [`Cluster::keep_folder`] was called.
pub struct Cluster {
    binary: PathBuf,
    clock: Arc<OsClock>,
    nodes: Vec<Node>,
    folder: Arc<Folder>,
}

#[derive(Deserialize)]
struct CreatedKey {
    access_key_id: String,
    secret_access_key: String,
}

impl Cluster {
    /// Starts `count` nodes on loopback that are no cluster yet.
    ///
    /// # Errors
    /// If the folder cannot be written or a process cannot be started.
    pub fn start(binary: &Path, count: usize, clock: Arc<OsClock>) -> anyhow::Result<Self> {
        let folder = Folder::make()?;
        let places = Place::on_loopback(folder.path(), count)?;
        Self::start_at(binary, folder, places, Tuning::Usual, clock)
    }

    /// Starts a node at each of these places; they are no cluster yet.
    ///
    /// # Errors
    /// If the folder cannot be written or a process cannot be started.
    pub fn start_at(
        binary: &Path,
        folder: Arc<Folder>,
        places: Vec<Place>,
        tuning: Tuning,
        clock: Arc<OsClock>,
    ) -> anyhow::Result<Self> {
        ensure!(binary.is_file(), "there is no binary at {}", binary.display());
        let binary = binary.canonicalize().context("the binary's path cannot be resolved")?;
        for (number, place) in (1..).zip(&places) {
            place.furnish(number, &places, tuning)?;
        }
        let nodes = places.into_iter().map(|place| Node { place, child: None }).collect();
        let mut cluster = Self { binary, clock, nodes, folder };
        for number in 1..=cluster.nodes.len() {
            cluster.start_node(number)?;
        }
        Ok(cluster)
    }

    /// Forms the cluster and makes a credential.
    ///
    /// # Errors
    /// If a node does not come up, or a command fails; with the command's words.
    pub async fn form(&mut self, probe: &Client) -> anyhow::Result<Credentials> {
        for number in 1..=self.nodes.len() {
            self.wait_for(probe, number, "/health/live").await?;
        }
        let expect = self.nodes.len().to_string();
        self.command(&["cluster", "init", "--expect", &expect])?;
        for number in 1..=self.nodes.len() {
            self.wait_ready(probe, number).await?;
        }
        let created = self.command(&["key", "create", "jepsen", "-o", "json"])?;
        let created: CreatedKey = serde_json::from_str(&created)
            .with_context(|| format!("key create printed no credential: {created}"))?;
        Ok(Credentials {
            access_key_id: created.access_key_id,
            secret_access_key: created.secret_access_key,
            region: REGION.to_owned(),
        })
    }

    /// Runs a command of the binary against node 1 and returns what it printed.
    ///
    /// # Errors
    /// If it fails, with what it said.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let first = self.nodes.first().context("the cluster has no node")?;
        let output = Command::new(&self.binary)
            .args(arguments)
            .env("QUORATE_ADMIN_URL", format!("http://{}", first.place.admin))
            .env("QUORATE_ADMIN_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{} cannot be run", self.binary.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("quorate {} failed ({}): {}", arguments.join(" "), output.status, said.trim());
        }
        String::from_utf8(output.stdout).context("the command printed no text")
    }

    /// Where nodes serve S3, in order.
    #[must_use]
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.place.s3).collect()
    }

    /// Where nodes live, in order.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        self.nodes.iter().map(|node| node.place.clone()).collect()
    }

    /// Starts node `number` (from 1) if it is not running.
    ///
    /// # Errors
    /// If there is no such node or the process cannot be started.
    pub fn start_node(&mut self, number: usize) -> anyhow::Result<()> {
        let binary = self.binary.clone();
        let node = self.node(number)?;
        if node.child.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(node.place.log())?;
        let (program, launcher) = match node.place.launcher.split_first() {
            Some((program, rest)) => (PathBuf::from(program), rest),
            None => (binary.clone(), &[][..]),
        };
        let mut command = Command::new(&program);
        if program != binary {
            command.args(launcher).arg(&binary);
        }
        let child = command
            .args(["server", "--config"])
            .arg(node.place.config())
            .envs(node.place.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("node {number} cannot be started"))?;
        node.child = Some(child);
        Ok(())
    }

    /// Kills node `number` at once, as by `kill -9`, and waits for its end. Whether that is how
    /// it ended.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn kill(&mut self, number: usize) -> anyhow::Result<bool> {
        let node = self.node(number)?;
        let Some(mut child) = node.child.take() else { return Ok(false) };
        child.kill().with_context(|| format!("node {number} cannot be killed"))?;
        let status = child.wait()?;
        Ok(status.signal() == Some(Signal::KILL.as_raw()))
    }

    /// Kills all nodes, with nothing but the system calls between the first and the last. How
    /// many ended by it.
    ///
    /// # Errors
    /// If a node cannot be killed.
    pub fn kill_all(&mut self) -> anyhow::Result<usize> {
        let all: Vec<usize> = (1..=self.nodes.len()).collect();
        self.kill_several(&all)
    }

    /// Kills those of these nodes that run, likewise.
    ///
    /// # Errors
    /// If a node cannot be killed.
    pub fn kill_several(&mut self, numbers: &[usize]) -> anyhow::Result<usize> {
        for number in numbers {
            if self.node(*number)?.child.is_some() {
                self.signal(*number, Signal::KILL)?;
            }
        }
        let mut killed = 0;
        for number in numbers {
            killed += usize::from(self.kill(*number)?);
        }
        Ok(killed)
    }

    /// Stops node `number` in its tracks until [`Cluster::resume`].
    ///
    /// # Errors
    /// If it is not running.
    pub fn pause(&mut self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::STOP)
    }

    /// Lets a paused node run on.
    ///
    /// # Errors
    /// If it is not running.
    pub fn resume(&mut self, number: usize) -> anyhow::Result<()> {
        self.signal(number, Signal::CONT)
    }

    /// Whether node `number` is stopped, as the kernel tells it.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn is_stopped(&mut self, number: usize) -> anyhow::Result<bool> {
        let node = self.node(number)?;
        let Some(child) = &node.child else { return Ok(false) };
        Ok(state(child.id()) == Some('T'))
    }

    fn signal(&mut self, number: usize, signal: Signal) -> anyhow::Result<()> {
        let node = self.node(number)?;
        let child = node.child.as_ref().with_context(|| format!("node {number} is not running"))?;
        // The child was not waited for, so its id is not another process's yet.
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("node {number} has no process id"))?;
        kill_process(pid, signal).with_context(|| format!("node {number} cannot be signalled"))
    }

    /// Waits until node `number` says that it can serve.
    ///
    /// # Errors
    /// If it ends or takes longer than a minute; with the end of its log.
    pub async fn wait_ready(&mut self, probe: &Client, number: usize) -> anyhow::Result<()> {
        self.wait_for(probe, number, "/health/ready").await
    }

    async fn wait_for(&mut self, probe: &Client, number: usize, path: &str) -> anyhow::Result<()> {
        let began = self.clock.monotonic();
        let admin = self.node(number)?.place.admin;
        while !probe.probe(admin, path).await {
            let ended = match &mut self.node(number)?.child {
                Some(child) => child.try_wait()?,
                None => bail!("node {number} was not started"),
            };
            if let Some(status) = ended {
                bail!("node {number} ended with {status}:\n{}", self.log_end(number)?);
            }
            if self.clock.monotonic().since(began) > START_PATIENCE {
                let log = self.log_end(number)?;
                bail!("node {number} did not answer {path} in {START_PATIENCE:?}:\n{log}");
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The nodes that have ended without being asked to, as `node N: how`.
    pub fn fallen(&mut self) -> Vec<String> {
        self.take_fallen().into_iter().map(|(_, how)| how).collect()
    }

    /// The nodes that have ended without being asked to since the last call, and how. They can
    /// be started again.
    pub fn take_fallen(&mut self) -> Vec<(usize, String)> {
        let mut fallen = Vec::new();
        for (number, node) in (1..).zip(&mut self.nodes) {
            if let Some(Ok(Some(status))) = node.child.as_mut().map(Child::try_wait) {
                fallen.push((number, format!("node {number} ended by itself with {status}")));
                node.child = None;
            }
        }
        fallen
    }

    /// Lets the folder stay behind for people to look at; where it is.
    pub fn keep_folder(&self) -> PathBuf {
        self.folder.keep();
        self.folder.path().to_owned()
    }

    fn log_end(&mut self, number: usize) -> anyhow::Result<String> {
        let text = fs::read_to_string(self.node(number)?.place.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        Ok(lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    fn node(&mut self, number: usize) -> anyhow::Result<&mut Node> {
        let place = number.checked_sub(1);
        let node = place.and_then(|place| self.nodes.get_mut(place));
        node.with_context(|| format!("there is no node {number}"))
    }
}

/// The state letter of a process, as the kernel tells it; `None` if there is none.
fn state(id: u32) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            // A process that has ended already is as good as one that is killed here.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use quorate::env::OsClock;

    use super::{Client, Cluster, state};

    /// A stand-in for the server: it runs this line of shell.
    fn stand_in(folder: &tempfile::TempDir, line: &str) -> PathBuf {
        let path = folder.path().join("stand-in");
        fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn ids(cluster: &Cluster) -> Vec<u32> {
        cluster
            .nodes
            .iter()
            .filter_map(|node| node.child.as_ref())
            .map(|child| child.id())
            .collect()
    }

    #[test]
    fn nodes_are_paused_killed_and_ended_by_their_own_id() {
        let folder = tempfile::tempdir().unwrap();
        let binary = stand_in(&folder, "exec sleep 600");
        let mut cluster = Cluster::start(&binary, 3, Arc::new(OsClock::new())).unwrap();
        let all = ids(&cluster);

        cluster.pause(1).unwrap();
        // The kernel stops a process soon after the signal, not within the call.
        let paused = (0..1_000_000).any(|_| cluster.is_stopped(1).unwrap());
        cluster.resume(1).unwrap();
        let killed = cluster.kill(2).unwrap();

        assert!(paused && killed);
        assert!(!cluster.is_stopped(2).unwrap() && !cluster.kill(2).unwrap());
        assert_eq!(state(all[1]), None);
        assert!(cluster.pause(2).is_err());
        assert!(cluster.fallen().is_empty());
        cluster.start_node(2).unwrap();
        assert_eq!(ids(&cluster).len(), 3);
        let last = ids(&cluster);
        drop(cluster);
        assert!(last.iter().all(|id| state(*id).is_none()));
    }

    #[tokio::test]
    async fn a_node_that_ends_at_its_start_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let binary = stand_in(&folder, "echo the disk is missing >&2; exit 3");
        let clock = Arc::new(OsClock::new());
        let mut cluster = Cluster::start(&binary, 1, Arc::clone(&clock)).unwrap();
        let probe = Client::nobody(clock, Duration::from_secs(1));

        let error = cluster.form(&probe).await.err().unwrap();

        assert!(error.to_string().contains("the disk is missing"), "{error}");
    }
}
