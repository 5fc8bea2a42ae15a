//! Open files: a server of many clients takes one for each.

use std::fmt;

/// How many the process keeps for itself: its store's files and logs, connections to a Redis, the
/// server's own pipes, and clients that are told that there are too many.
const OWN: u64 = 64;

/// How many files the process may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors(Option<u64>);

impl Descriptors {
    /// Raises the soft limit as far as the system lets every process.
    #[cfg(unix)]
    pub fn raise() -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // Without a hard limit some systems take no soft one either; a million is more than anybody
        // has.
        let wanted = limit.maximum.unwrap_or(1 << 20);
        let raised = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum: limit.maximum,
            },
        );
        Descriptors(if raised.is_ok() {
            Some(wanted)
        } else {
            limit.current
        })
    }

    /// There is no such limit.
    #[cfg(not(unix))]
    pub fn raise() -> Self {
        Descriptors(None)
    }

    /// How many Redis clients there may be, of those that are wanted, and how many connections over
    /// HTTP. Each has at least a quarter of what there is.
    pub fn divide(self, clients: usize) -> (usize, usize) {
        let Some(limit) = self.0 else {
            return (clients, crate::server::CONNECTIONS);
        };
        let there = usize::try_from(limit.saturating_sub(OWN))
            .unwrap_or(usize::MAX)
            .max(4);
        let clients = clients.min(there / 4 * 3);
        (clients, (there - clients).min(crate::server::CONNECTIONS))
    }
}

impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(limit) => write!(f, "this process may have {limit} files open"),
            None => f.write_str("this process may have any number of files open"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_clients_leave_room_for_everything_else() {
        let divided = |limit, clients| Descriptors(Some(limit)).divide(clients);
        assert_eq!(divided(256, 1000), (144, 48));
        assert_eq!(divided(1024, 1000), (720, 240));
        assert_eq!(divided(1 << 20, 1000), (1000, crate::server::CONNECTIONS));
        assert_eq!(divided(256, 0), (0, 192));
        assert_eq!(
            divided(10, 1000),
            (3, 1),
            "with hardly any there is still a little of each"
        );
    }
}
