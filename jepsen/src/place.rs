//! Where a node lives, and the file that it is started with.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The region that every node is configured with.
pub const REGION: &str = "us-east-1";

/// Bearer token of these throw-away clusters.
pub const TOKEN: &str = "jepsen-admin-token-0123456789";
const SECRET: &str = "jepsen-cluster-secret-0123456789";

/// Where one node lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where it serves S3.
    pub s3: SocketAddr,
    /// Where it serves the key-value API.
    pub kv: SocketAddr,
    /// Where it serves its administrators.
    pub admin: SocketAddr,
    /// Where its peers reach it.
    pub peer: SocketAddr,
    /// Where its configuration and log are.
    pub home: PathBuf,
    /// Where its data is.
    pub data: PathBuf,
    /// What runs the binary there; nothing if it is run as it is.
    pub launcher: Vec<String>,
    /// Variables that it is started with.
    pub variables: Vec<(String, String)>,
}

impl Place {
    /// A place for each of `count` nodes on loopback, at free ports, under `folder`.
    ///
    /// # Errors
    /// If there are no ports.
    pub fn on_loopback(folder: &Path, count: usize) -> anyhow::Result<Vec<Self>> {
        // All are held until all are known, so that no two agree.
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let streams: Vec<TcpListener> =
            (0..3 * count).map(|_| TcpListener::bind(any)).collect::<Result<_, _>>()?;
        let datagrams: Vec<UdpSocket> =
            (0..count).map(|_| UdpSocket::bind(any)).collect::<Result<_, _>>()?;
        let mut places = Vec::new();
        for (number, (streams, datagram)) in streams.chunks(3).zip(&datagrams).enumerate() {
            let [s3, kv, admin] = streams else { continue };
            let home = folder.join(format!("node-{}", number + 1));
            places.push(Self {
                s3: s3.local_addr()?,
                kv: kv.local_addr()?,
                admin: admin.local_addr()?,
                peer: datagram.local_addr()?,
                data: home.join("data"),
                home,
                launcher: Vec::new(),
                variables: Vec::new(),
            });
        }
        Ok(places)
    }

    /// The place of a host with an address of its own, with the usual ports.
    #[must_use]
    pub fn at(address: Ipv4Addr, home: PathBuf, data: PathBuf, launcher: Vec<String>) -> Self {
        let port = |port| SocketAddr::from((address, port));
        Self {
            s3: port(9000),
            admin: port(9001),
            peer: port(9002),
            kv: port(9004),
            home,
            data,
            launcher,
            variables: Vec::new(),
        }
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.home.join("quorate.toml")
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.join("log")
    }

    /// Makes its folder and writes its configuration.
    ///
    /// # Errors
    /// If that is refused.
    pub fn furnish(&self, number: usize, all: &[Self], tuning: Tuning) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.home)
            .with_context(|| format!("cannot make {}", self.home.display()))?;
        let config = self.config();
        std::fs::write(&config, self.configuration(number, all, tuning))
            .with_context(|| format!("cannot write {}", config.display()))
    }

    fn configuration(&self, number: usize, all: &[Self], tuning: Tuning) -> String {
        let own = self.peer;
        let others = all.iter().map(|place| place.peer).filter(|peer| *peer != own);
        let others: Vec<String> = others.map(|peer| format!("\"{peer}\"")).collect();
        format!(
            "[node]\nname = \"n{number}\"\ncapacity = \"1GiB\"\ndata_dir = \"{data}\"\n\n\
             [cluster]\nsecret = \"{SECRET}\"\npeers = [{peers}]\n{cluster}\n\
             [peer]\nlisten = \"{own}\"\nadvertise = \"{own}\"\n\n\
             [s3]\nlisten = \"{s3}\"\nregion = \"{REGION}\"\n\n\
             [kv]\nlisten = \"{kv}\"\n\n\
             [admin]\nlisten = \"{admin}\"\ntoken = \"{TOKEN}\"\n\n{rest}",
            data = self.data.display(),
            peers = others.join(", "),
            cluster = tuning.cluster(),
            s3 = self.s3,
            kv = self.kv,
            admin = self.admin,
            rest = tuning.rest(),
        )
    }
}

/// Whether nodes run with the product's defaults, or with spans so short that a run of minutes
/// sees what else takes hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// The defaults.
    Usual,
    /// Short deadlines, small segments, and repair, purge, collection and scrub without rest.
    Hasty,
}

impl Tuning {
    const fn cluster(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Hasty => "partitions = 64\n",
        }
    }

    const fn rest(self) -> &'static str {
        match self {
            Self::Usual => "",
            Self::Hasty => {
                "[limits]\nrequest_deadline = \"6s\"\n\n\
                 [repair]\ninterval = \"10s\"\npurge_lag = \"20s\"\n\n\
                 [store]\nsegment_size = \"4MiB\"\nread_grace = \"15s\"\nscrub_interval = \"10s\"\n"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::{Place, Tuning};

    #[test]
    fn places_on_loopback_share_no_port_and_know_each_other() {
        let places = Place::on_loopback(Path::new("/nowhere"), 3).unwrap();

        let streams: BTreeSet<_> =
            places.iter().flat_map(|place| [place.s3, place.kv, place.admin]).collect();
        assert_eq!(streams.len(), 9);
        let text = places[0].configuration(1, &places, Tuning::Hasty);
        let peers = text.lines().find(|line| line.starts_with("peers")).unwrap();
        assert!(!peers.contains(&places[0].peer.to_string()));
        assert!(places[1..].iter().all(|place| peers.contains(&place.peer.to_string())));
    }
}
