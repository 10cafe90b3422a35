//! One network namespace for each node, all on one switch.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate::env::OsClock;

use super::kernel::open_tun;
use super::switch::{CLIENTS, Switch, address};
use super::tool::run;

/// Few large packets: the switch costs as much for a small one.
const MTU: &str = "8000";

/// Hosts with own addresses; dropping it removes them.
pub(super) struct Network {
    switch: Switch,
    nodes: usize,
}

impl Network {
    /// Makes hosts for `nodes` nodes. This process is the clients' host. Only inside the
    /// sandbox, and one at a time.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn build(nodes: usize, seed: u64, clock: Arc<OsClock>) -> anyhow::Result<Self> {
        let mut devices = BTreeMap::new();
        for host in 0..=nodes {
            let device = format!("tun{host}");
            devices.insert(host, open_tun(&device)?);
            let own = format!("{}/24", address(host));
            let mut at: Vec<&str> = Vec::new();
            let name = namespace(host);
            if host != CLIENTS {
                run("ip", &["netns", "add", &name])?;
                run("ip", &["link", "set", &device, "netns", &name])?;
                at.extend(["-n", &name]);
                run("ip", &[&at[..], &["link", "set", "lo", "up"]].concat())?;
            }
            run("ip", &[&at[..], &["addr", "add", &own, "dev", &device]].concat())?;
            let up = ["link", "set", &device, "mtu", MTU, "txqueuelen", "4000", "up"];
            run("ip", &[&at[..], &up].concat())?;
        }
        Ok(Self { switch: Switch::start(devices, seed, clock)?, nodes })
    }

    /// The switch.
    #[must_use]
    pub(super) fn switch(&self) -> &Switch {
        &self.switch
    }

    /// What runs a command at a node's host.
    #[must_use]
    pub(super) fn launcher(node: usize) -> Vec<String> {
        let namespace = format!("--net=/run/netns/{}", namespace(node));
        ["nsenter", &namespace, "--"].map(str::to_owned).to_vec()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 1..=self.nodes {
            // Whatever is left goes with the sandbox.
            drop(run("ip", &["netns", "del", &namespace(node)]));
        }
    }
}

fn namespace(node: usize) -> String {
    format!("n{node}")
}
