//! What the operating system knows of this process. On Linux it is in `/proc`; elsewhere nothing is
//! known.

use std::fs;

/// How many ticks `/proc` counts in a second: Linux's `USER_HZ`, the same on every architecture
/// that Rust supports.
const TICKS: f64 = 100.0;

/// A process, under the names that Prometheus' own libraries use.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Time on all processors, in seconds.
    pub cpu_seconds: f64,
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// The most memory that was in use, in bytes.
    pub peak_bytes: u64,
    /// Address space in use, in bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// How many it may open; `None` when there is no limit.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: u64,
    /// When it was started, in seconds since 1970.
    pub started: f64,
}

impl Process {
    /// This process now.
    pub fn now() -> Option<Self> {
        let text = |name: &str| fs::read_to_string(format!("/proc/{name}")).ok();
        // Reading the directory opens a descriptor of its own.
        let open = fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1);
        Process::parse(
            &text("self/stat")?,
            &text("self/status")?,
            &text("self/limits")?,
            &text("stat")?,
            open,
        )
    }

    fn parse(stat: &str, status: &str, limits: &str, machine: &str, open: usize) -> Option<Self> {
        // The second field is the program's name in parentheses, and may hold blanks and
        // parentheses itself.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // As numbered in proc(5), where the field behind the name is the third.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let kib = |name: &str| -> Option<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        let limit = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        let booted = machine
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?
            .trim()
            .parse::<f64>()
            .ok()?;
        Some(Process {
            cpu_seconds: (field(14)? + field(15)?) / TICKS,
            resident_bytes: kib("VmRSS")?,
            peak_bytes: kib("VmHWM")?,
            virtual_bytes: kib("VmSize")?,
            open_fds: u64::try_from(open).ok()?,
            max_fds: limit.split_whitespace().next()?.parse().ok(),
            threads: fields.get(20 - 3)?.parse().ok()?,
            started: booted + field(22)? / TICKS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_and_missing_limits_are_read() {
        let stat = "77 (a b) (c) S 1 77 77 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 9 0 12345 1000 20 18446744073709551615";
        let status =
            "Name:\ta b) (c\nVmSize:\t    2000 kB\nVmRSS:\t    1000 kB\nVmHWM:\t    1500 kB\n";
        let limits = |soft| {
            format!(
                "Limit   Soft Limit  Hard Limit  Units\nMax open files   {soft}   4096  files\n"
            )
        };
        let machine = "cpu 1 2 3\nbtime 1700000000\n";
        let expected = Process {
            cpu_seconds: 3.0,
            resident_bytes: 1_024_000,
            peak_bytes: 1_536_000,
            virtual_bytes: 2_048_000,
            open_fds: 12,
            max_fds: Some(1024),
            threads: 9,
            started: 1_700_000_123.45,
        };
        assert_eq!(
            Process::parse(stat, status, &limits("1024"), machine, 12),
            Some(expected.clone())
        );
        let unlimited = Process {
            max_fds: None,
            ..expected
        };
        assert_eq!(
            Process::parse(stat, status, &limits("unlimited"), machine, 12),
            Some(unlimited)
        );
        assert_eq!(
            Process::parse("77 (a) S 1", status, &limits("1024"), machine, 12),
            None
        );
    }
}
