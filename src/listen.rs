//! The ports that the server listens on. They are bound before a store is opened or created, so
//! that a start on a port in use has no effect.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};

/// A port of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// The port of the dashboard.
    Http,
    /// The port for Redis clients.
    Resp,
}

impl Port {
    /// Returns the command-line option that sets the address.
    const fn option(self) -> &'static str {
        match self {
            Port::Http => "--listen",
            Port::Resp => "--resp",
        }
    }

    /// Returns the port number that messages suggest.
    const fn default_number(self) -> u16 {
        match self {
            Port::Http => 8080,
            Port::Resp => 6380,
        }
    }

    /// Listens on every address that `listen` resolves to, such as `127.0.0.1:8080`. Port 0 stands
    /// for any free port. Returns at least one listener.
    ///
    /// # Errors
    /// Returns an error if none of the addresses can be listened on. The message says what to do.
    pub(crate) fn bind(self, listen: &str) -> io::Result<Vec<TcpListener>> {
        let addresses = listen
            .to_socket_addrs()
            .map_err(|error| self.failed(listen, &error))?;
        let mut bound = Vec::new();
        let mut failure = None;
        for address in addresses {
            match TcpListener::bind(address) {
                Ok(listener) => bound.push(listener),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if bound.is_empty() => Err(self.failed(listen, &error)),
            None if bound.is_empty() => {
                Err(self.failed(listen, &io::ErrorKind::AddrNotAvailable.into()))
            }
            _ => Ok(bound),
        }
    }

    fn failed(self, listen: &str, error: &io::Error) -> io::Error {
        let option = self.option();
        let number = self.default_number();
        let advice = match error.kind() {
            io::ErrorKind::AddrInUse => {
                let other = number + 1;
                format!(
                    "the port is in use. Stop the other program or pass {option} 127.0.0.1:{other} (port 0 stands for any free port)"
                )
            }
            io::ErrorKind::PermissionDenied => format!(
                "permission denied. Ports below 1024 need privileges; pass a higher one with {option}"
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "this machine has no such address. Pass {option} 127.0.0.1:{number} for local connections only, or {option} 0.0.0.0:{number} for all addresses"
            ),
            _ => format!("{error}. Pass another address with {option}"),
        };
        io::Error::new(error.kind(), format!("cannot listen on {listen}: {advice}"))
    }
}
