//! The limit of open files. A server needs one file descriptor per client.

use std::fmt;

use crate::server::CONNECTIONS;

/// The descriptors that are not for clients: the store's files and logs, connections to Redis,
/// the server's own pipes, and clients that are turned away.
const RESERVED: u64 = 64;

/// The limit if the system has no hard limit. Some systems then accept no unlimited soft limit.
#[cfg(unix)]
const UNLIMITED: u64 = 1 << 20;

/// The maximum number of open files of the process, or `None` if it is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors(Option<u64>);

/// The maximum numbers of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub redis: usize,
    pub http: usize,
}

impl Descriptors {
    /// Raises the soft limit to the hard limit, if the system allows it.
    #[cfg(unix)]
    pub fn raise() -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.unwrap_or(UNLIMITED);
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

    #[cfg(not(unix))]
    pub fn raise() -> Self {
        Descriptors(None)
    }

    /// Divides the descriptors between Redis clients, of which `redis` are wanted, and connections
    /// over HTTP. Each kind gets at least a quarter if it can use it.
    pub fn divide(self, redis: usize) -> Connections {
        let Some(limit) = self.0 else {
            return Connections {
                redis,
                http: CONNECTIONS,
            };
        };
        let available = usize::try_from(limit.saturating_sub(RESERVED))
            .unwrap_or(usize::MAX)
            .max(4);
        let redis = redis.min(available / 4 * 3);
        Connections {
            redis,
            http: (available - redis).min(CONNECTIONS),
        }
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
    fn redis_clients_leave_descriptors_for_http() {
        for (limit, wanted, redis, http) in [
            (256, 1000, 144, 48),
            (1024, 1000, 720, 240),
            (1 << 20, 1000, 1000, CONNECTIONS),
            (256, 0, 0, 192),
            // Even a tiny limit leaves some for each.
            (10, 1000, 3, 1),
        ] {
            assert_eq!(
                Descriptors(Some(limit)).divide(wanted),
                Connections { redis, http }
            );
        }
    }
}
