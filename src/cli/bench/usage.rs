//! CPU time and memory of processes, from `/proc` (proc(5)).

use anyhow::{Context, bail};

use crate::types::ByteCount;

/// Ticks of `/proc/P/stat` per second: `USER_HZ`, 100 on every architecture of Linux that
/// Quorate runs on, whatever the kernel's own tick.
const TICKS_PER_SECOND: f64 = 100.0;

/// What processes used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// User and system time.
    pub(super) cpu_seconds: f64,
    /// The sum of their greatest resident sizes since they started.
    pub(super) rss_max: ByteCount,
}

impl Usage {
    /// What the processes `pids` used together since they started.
    pub(super) fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let each = pids.iter().map(|pid| read(&pid.to_string()));
        each.sum::<anyhow::Result<Self>>()
    }

    /// What this process used.
    pub(super) fn own() -> anyhow::Result<Self> {
        read("self")
    }

    /// The CPU time since `earlier`; the memory as it is.
    pub(super) fn since(self, earlier: &Self) -> Self {
        Self { cpu_seconds: self.cpu_seconds - earlier.cpu_seconds, rss_max: self.rss_max }
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |sum, one| Self {
            cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
            rss_max: ByteCount(sum.rss_max.0 + one.rss_max.0),
        })
    }
}

fn read(process: &str) -> anyhow::Result<Usage> {
    let file = |name: &str| {
        let path = format!("/proc/{process}/{name}");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}: does it run?"))
    };
    let (stat, status) = (file("stat")?, file("status")?);
    match (cpu_ticks(&stat), rss_max(&status)) {
        (Some(ticks), Some(rss_max)) => {
            Ok(Usage { cpu_seconds: ticks as f64 / TICKS_PER_SECOND, rss_max })
        }
        _ => bail!("/proc/{process} has another form than proc(5) says"),
    }
}

/// Fields 14 and 15, counted from the closing parenthesis: a process' name may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn rss_max(status: &str) -> Option<ByteCount> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(ByteCount::kib(kib))
}

#[cfg(test)]
mod tests {
    use super::{Usage, cpu_ticks, rss_max};
    use crate::types::ByteCount;

    #[test]
    fn the_name_of_a_process_may_hold_parentheses() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 31 11 0 0 20 0 1 0 5 0 0";

        assert_eq!(cpu_ticks(stat), Some(42));
    }

    #[test]
    fn the_peak_is_read() {
        assert_eq!(rss_max("VmPeak:\t9 kB\nVmHWM:\t  2048 kB\n"), Some(ByteCount::mib(2)));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::own().unwrap().rss_max > ByteCount::kib(100));
    }
}
