//! Ports to listen on. They are bound before any store is opened or created, so that a port that is
//! taken changes nothing.

use std::io;
use std::net::{TcpListener, ToSocketAddrs};

/// Which of the server's ports it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// The dashboard's.
    Http,
    /// The one for Redis clients.
    Resp,
}

impl Port {
    /// The option that names the address.
    const fn option(self) -> &'static str {
        match self {
            Port::Http => "--listen",
            Port::Resp => "--resp",
        }
    }

    /// The usual number.
    const fn usual(self) -> u16 {
        match self {
            Port::Http => 8080,
            Port::Resp => 6380,
        }
    }

    /// Listens on every address that the text stands for, such as `127.0.0.1:8080`; port 0 takes a
    /// free one. There is at least one listener.
    ///
    /// # Errors
    /// When none of them can be listened on, with what to do.
    pub(crate) fn bind(self, listen: &str) -> io::Result<Vec<TcpListener>> {
        let addresses = listen
            .to_socket_addrs()
            .map_err(|error| self.failed(listen, &error))?;
        let (mut bound, mut failure) = (Vec::new(), None);
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
        let (option, usual) = (self.option(), self.usual());
        let mend = match error.kind() {
            io::ErrorKind::AddrInUse => {
                let other = usual + 1;
                format!(
                    "another program uses that port. Stop it, or take another with {option} 127.0.0.1:{other} (port 0 is any free one)"
                )
            }
            io::ErrorKind::PermissionDenied => {
                format!(
                    "not allowed. Ports below 1024 need privileges; take a higher one with {option}"
                )
            }
            io::ErrorKind::AddrNotAvailable => format!(
                "this machine has no such address. Give {option} 127.0.0.1:{usual} for itself, 0.0.0.0:{usual} for all of its addresses"
            ),
            _ => format!("{error}; choose with {option}"),
        };
        io::Error::new(error.kind(), format!("cannot listen on {listen}: {mend}"))
    }
}
