//! How soon a dead node is noticed, and how near a healthy one comes to being suspected.
//!
//! One node is watched by all others. Heartbeats travel in digests only: with SYN to the node
//! that is called, with SYN-ACK back, as that node's state was at that moment.

use super::settings::Settings;
use crate::entropy::Seed;
use crate::models::draws::Draws;

/// Rounds before anything is measured: the detector's window is full by then.
const WARM_UP: u32 = 40;
/// Rounds after which a death that nobody noticed is a fault of the model.
const PATIENCE: u32 = 400;

/// When all others noticed one death.
#[derive(Clone, Debug, PartialEq)]
pub struct Detected {
    /// Seconds from the death until each observer showed the node as down, in no order.
    pub seconds: Vec<f64>,
}

/// How healthy a healthy node looked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    /// The greatest phi that any observer computed of it.
    pub phi_most: f64,
    /// How often an observer took it for down.
    pub suspicions: u32,
}

/// Kills a node at a random time and waits until everybody has noticed.
#[must_use]
pub fn detect(settings: &Settings, nodes: usize, seed: Seed) -> Detected {
    let mut watch = Watch::new(settings, nodes, seed);
    for round in 0..WARM_UP {
        watch.round(round);
    }
    let death = (f64::from(WARM_UP) + watch.draws.unit()) * settings.interval;
    watch.death = death;
    for round in WARM_UP..WARM_UP + PATIENCE {
        watch.round(round);
        if watch.observers.iter().skip(1).all(|observer| observer.noticed.is_some()) {
            break;
        }
    }
    let seen = |observer: &Observer| {
        // The node looks at chitchat's list twice in a round, at times of its own.
        let (noticed, step) = (observer.noticed?, settings.interval / 2.0);
        let looks = ((noticed - observer.glance * step) / step).ceil();
        Some(looks * step + observer.glance * step - death)
    };
    Detected { seconds: watch.observers.iter().skip(1).filter_map(seen).collect() }
}

/// Watches a healthy node for so many rounds.
#[must_use]
pub fn health(settings: &Settings, nodes: usize, rounds: u32, seed: Seed) -> Health {
    let mut watch = Watch::new(settings, nodes, seed);
    for round in 0..WARM_UP + rounds {
        if round == WARM_UP {
            watch.phi_most = 0.0;
            watch.suspicions = 0;
        }
        watch.round(round);
    }
    Health { phi_most: watch.phi_most, suspicions: watch.suspicions }
}

/// The one node that is watched.
const WATCHED: usize = 0;

/// All nodes, and what they know of the one that is watched.
struct Watch<'a> {
    settings: &'a Settings,
    draws: Draws,
    /// When in a round each node calls its peers, in order of time.
    phases: Vec<(f64, usize)>,
    observers: Vec<Observer>,
    /// The watched node's own heartbeat.
    heartbeat: u64,
    death: f64,
    phi_most: f64,
    suspicions: u32,
}

/// What one node knows of the watched one: chitchat's sampling window.
#[derive(Clone, Debug, Default)]
struct Observer {
    heartbeat: u64,
    heard: Option<f64>,
    /// The last intervals, at most as many as the window has.
    intervals: Vec<f64>,
    oldest: usize,
    noticed: Option<f64>,
    /// When it looks at the list, in parts of half a round.
    glance: f64,
}

impl Observer {
    /// Hears of a heartbeat.
    fn hear(&mut self, heartbeat: u64, now: f64, settings: &Settings) {
        if heartbeat <= self.heartbeat {
            return;
        }
        self.heartbeat = heartbeat;
        let interval = self.heard.map(|heard| now - heard);
        self.heard = Some(now);
        let Some(interval) = interval.filter(|interval| *interval <= settings.interval_max) else {
            return;
        };
        if self.intervals.len() < settings.window {
            self.intervals.push(interval);
        } else {
            self.intervals[self.oldest] = interval;
            self.oldest = (self.oldest + 1) % settings.window;
        }
    }

    /// The elapsed time in units of the smoothed mean interval; none before two heartbeats.
    fn phi(&self, now: f64, settings: &Settings) -> Option<f64> {
        let heard = self.heard.filter(|_| !self.intervals.is_empty())?;
        let sum: f64 = self.intervals.iter().sum::<f64>() + settings.prior * settings.interval;
        let mean = sum / (self.intervals.len() as f64 + settings.prior);
        Some((now - heard) / mean)
    }
}

impl<'a> Watch<'a> {
    fn new(settings: &'a Settings, nodes: usize, seed: Seed) -> Self {
        let mut draws = Draws::new(seed);
        let mut phases: Vec<(f64, usize)> = (0..nodes).map(|node| (draws.unit(), node)).collect();
        phases.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        let observer = |_| Observer { glance: draws.unit(), ..Observer::default() };
        let observers = (0..nodes).map(observer).collect();
        let (heartbeat, death) = (0, f64::INFINITY);
        Self { settings, draws, phases, observers, heartbeat, death, phi_most: 0.0, suspicions: 0 }
    }

    fn round(&mut self, round: u32) {
        for place in 0..self.phases.len() {
            let (phase, node) = self.phases[place];
            let now = (f64::from(round) + phase) * self.settings.interval;
            if node != WATCHED || now < self.death {
                self.gossip(node, now);
            }
        }
    }

    /// A node calls its peers and judges.
    fn gossip(&mut self, node: usize, now: f64) {
        let peers = self.peers_of(node);
        if node == WATCHED {
            self.heartbeat += 1;
        }
        // What all SYNs say, before any answer is in.
        let said = self.known_to(node);
        self.judge(node, now);
        for peer in peers {
            if peer == WATCHED && now >= self.death {
                continue;
            }
            if peer == WATCHED {
                // A message that comes in is a heartbeat too.
                self.heartbeat += 1;
            } else {
                self.observers[peer].hear(said, now, self.settings);
            }
            let answer = self.known_to(peer);
            if node != WATCHED {
                self.observers[node].hear(answer, now, self.settings);
            }
        }
    }

    /// Three live peers; and, once it takes the watched node for dead, by chance that one, and by
    /// chance one of the seeds, which are all members that were ever met.
    fn peers_of(&mut self, node: usize) -> Vec<usize> {
        let (count, wanted) = (self.observers.len(), self.settings.fan_out);
        if node == WATCHED || self.observers[node].noticed.is_none() {
            return self.draws.others(count, node, wanted);
        }
        let live = (count - 2) as f64;
        let mut peers = self.draws.others(count, node, wanted + 1);
        peers.retain(|peer| *peer != WATCHED);
        peers.truncate(wanted);
        if self.draws.happens(1.0 / (live + 1.0)) {
            peers.push(WATCHED);
        }
        peers.extend(self.draws.others(count, node, 1));
        peers
    }

    fn known_to(&self, node: usize) -> u64 {
        if node == WATCHED { self.heartbeat } else { self.observers[node].heartbeat }
    }

    fn judge(&mut self, node: usize, now: f64) {
        if node == WATCHED {
            return;
        }
        let settings = self.settings;
        let observer = &mut self.observers[node];
        let Some(phi) = observer.phi(now, settings) else { return };
        self.phi_most = self.phi_most.max(phi);
        if phi <= settings.phi {
            observer.noticed = None;
            return;
        }
        // A window starts afresh when its node was taken for dead.
        observer.intervals.clear();
        observer.oldest = 0;
        if observer.noticed.is_none() {
            observer.noticed = Some(now);
            self.suspicions += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Observer, detect, health};
    use crate::entropy::Seed;
    use crate::models::gossip::Settings;

    #[test]
    fn phi_is_the_silence_in_units_of_the_smoothed_mean_interval() {
        let settings = Settings::configured();
        let mut observer = Observer::default();
        for (heartbeat, now) in [(1, 0.0), (2, 9.0), (3, 9.1), (3, 9.15), (4, 9.3)] {
            observer.hear(heartbeat, now, &settings);
        }

        // 9 s is no interval; 0.1 and 0.2 are, beside five of 0.25.
        let mean = (0.1 + 0.2 + 5.0 * 0.25) / 7.0;
        assert!((observer.phi(10.3, &settings).unwrap() - 1.0 / mean).abs() < 1e-9);
    }

    #[test]
    fn everybody_notices_a_death_after_the_timeout_and_soon_after_it() {
        let settings = Settings::configured();
        for nodes in [2, 3, 30] {
            let seconds = detect(&settings, nodes, Seed(4).with(nodes as u64)).seconds;

            assert_eq!(seconds.len(), nodes - 1);
            // The mean interval lies between five sevenths of a round and a round or so.
            let (least, most) = (8.5 * 0.25 * 5.0 / 7.0, 3.5);
            // An observer may have last heard some rounds before the death.
            assert!(seconds.iter().all(|s| (least - 0.5..most).contains(s)), "{seconds:?}");
        }
    }

    #[test]
    fn a_healthy_node_is_not_suspected() {
        let health = health(&Settings::configured(), 30, 400, Seed(4));

        assert_eq!(health.suspicions, 0);
        assert!(health.phi_most > 0.5 && health.phi_most < 8.5, "{health:?}");
    }
}
