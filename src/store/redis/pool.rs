//! A pool of connections, each opened when first needed and reopened after it breaks.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ::redis::{RedisError, Value, cmd};

use super::connection::{
    Batch, RedisConnection, Reply, ServerFault, io_fault, io_kind, server_fault,
};
use super::location::{Address, Login};

/// A pool of places for connections.
///
/// r2d2 limits the number of connections, hands them out and closes idle ones. It does not open
/// them: after a failure it waits longer and longer, up to half of the timeout, before it retries,
/// so the first request after Redis came back would fail. Instead it pools places that start empty,
/// and each is filled with a connection when it is first used.
pub(super) struct Pool {
    places: r2d2::Pool<Places>,
    connector: Connector,
}

impl Pool {
    pub fn new(address: Address, connections: u32, timeout: Duration) -> Self {
        let connections = connections.max(1);
        let timeout = timeout.max(Duration::from_millis(1));
        let places = r2d2::Pool::builder()
            .max_size(connections)
            .min_idle(Some(0))
            .test_on_check_out(false)
            .max_lifetime(None)
            .idle_timeout(Some(Duration::from_secs(300)))
            .connection_timeout(timeout)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Places);
        let connector = Connector {
            address: Arc::new(address),
            timeout,
            connections,
            dialling: Arc::default(),
        };
        Pool { places, connector }
    }

    pub fn location(&self) -> &str {
        &self.connector.address.location
    }

    /// Whether the server is on this machine.
    pub fn is_near(&self) -> bool {
        self.connector.address.is_near
    }

    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Runs a request on a connection that has just answered a PING. Waiting for a place,
    /// connecting, logging in and the PING together take no longer than the timeout.
    pub fn with<T>(&self, run: impl FnOnce(&mut RedisConnection) -> Reply<T>) -> Reply<T> {
        let end = Instant::now() + self.connector.timeout;
        let mut place = self.places.get().map_err(|_| {
            ServerFault::Away(format!(
                "all {} connections were busy for {:.1} s",
                self.connector.connections,
                self.connector.timeout.as_secs_f64()
            ))
        })?;
        // Taken out while in use, so that a panic while replies are pending drops the connection.
        let mut conn = match place.0.take() {
            Some(conn) => self.connector.check(conn, end)?,
            None => self.connector.connect(end)?,
        };
        let result = run(&mut conn);
        if !conn.is_broken() {
            place.0 = Some(conn);
        }
        result
    }
}

struct Places;

/// A place for a connection; empty until it is first used.
struct Place(Option<RedisConnection>);

impl r2d2::ManageConnection for Places {
    type Connection = Place;
    type Error = Infallible;

    fn connect(&self) -> Result<Place, Infallible> {
        Ok(Place(None))
    }

    fn is_valid(&self, _: &mut Place) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _: &mut Place) -> bool {
        false
    }
}

/// Opens connections.
pub(super) struct Connector {
    address: Arc<Address>,
    timeout: Duration,
    connections: u32,
    /// The number of attempts in progress.
    dialling: Arc<AtomicU32>,
}

impl Connector {
    /// The timeout of a trip.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A pooled connection if it still answers, otherwise a new one.
    fn check(&self, mut conn: RedisConnection, end: Instant) -> Reply<RedisConnection> {
        if conn.is_alive(end.saturating_duration_since(Instant::now())) {
            Ok(conn)
        } else {
            self.connect(end)
        }
    }

    /// A new connection, logged in.
    pub fn connect(&self, end: Instant) -> Reply<RedisConnection> {
        let left = end.saturating_duration_since(Instant::now());
        let raw = self.dial(left)?;
        let mut conn = RedisConnection::new(raw, self.timeout);
        self.log_in(&mut conn, end)?;
        Ok(conn)
    }

    /// Opens the socket on a separate thread. Resolving a name, trying its addresses one after the
    /// other and connecting to a Unix socket with a full queue can all exceed any timeout.
    fn dial(&self, limit: Duration) -> Reply<::redis::Connection> {
        // If earlier attempts hang, another one would too.
        if self.dialling.load(Ordering::Relaxed) >= self.connections.saturating_mul(4) {
            return Err(ServerFault::Away(
                "earlier attempts to connect are still waiting".to_owned(),
            ));
        }
        let (address, dialling) = (Arc::clone(&self.address), Arc::clone(&self.dialling));
        let (sender, receiver) = mpsc::sync_channel::<Result<::redis::Connection, RedisError>>(1);
        dialling.fetch_add(1, Ordering::Relaxed);
        let spawned = std::thread::Builder::new()
            .name("redis-connect".to_owned())
            .spawn(move || {
                let result = address
                    .client
                    .get_connection_with_timeout(limit.max(Duration::from_millis(1)));
                dialling.fetch_sub(1, Ordering::Relaxed);
                // After a timeout the receiver is gone. Then the connection closes here.
                let _ = sender.send(result);
            });
        if let Err(error) = spawned {
            self.dialling.fetch_sub(1, Ordering::Relaxed);
            return Err(ServerFault::Away(format!(
                "could not start a thread to connect: {error}"
            )));
        }
        match receiver.recv_timeout(limit) {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) if error.is_connection_refusal() => {
                let is_missing = io_kind(&error) == Some(std::io::ErrorKind::NotFound);
                let what = if is_missing {
                    "the socket does not exist"
                } else {
                    "connection refused"
                };
                Err(ServerFault::Away(format!(
                    "{what}. Is redis-server running there?"
                )))
            }
            Ok(Err(error)) => match io_fault(&error, limit) {
                // The client rejects addresses such as 0.0.0.0.
                ServerFault::Refused(_) => Err(ServerFault::Away(error.to_string())),
                fault => Err(fault),
            },
            Err(_) => Err(ServerFault::Away(format!(
                "no connection within {:.1} s",
                self.timeout.as_secs_f64()
            ))),
        }
    }

    /// AUTH, SELECT and PING in one trip.
    fn log_in(&self, conn: &mut RedisConnection, end: Instant) -> Reply<()> {
        let with_user = self
            .address
            .login
            .as_ref()
            .is_some_and(|login| login.user.is_some());
        match self.introduce(conn, end, with_user)? {
            // Before Redis 6, AUTH takes a password only.
            Hello::NoUsers if with_user => match self.introduce(conn, end, false)? {
                Hello::Welcome => Ok(()),
                Hello::NoUsers => Err(ServerFault::Refused(
                    "AUTH with only a password was refused".to_owned(),
                )),
            },
            _ => Ok(()),
        }
    }

    fn introduce(&self, conn: &mut RedisConnection, end: Instant, with_user: bool) -> Reply<Hello> {
        let mut batch = Batch::default();
        let login = self.address.login.as_ref();
        if let Some(login) = login {
            let mut auth = cmd("AUTH");
            if let Some(user) = login.user.as_ref().filter(|_| with_user) {
                auth.arg(user);
            }
            batch.push(auth.arg(&login.password));
        }
        if self.address.database != 0 {
            batch.push(cmd("SELECT").arg(self.address.database));
        }
        batch.push(&cmd("PING"));
        let replies = conn.trip_within(&batch, end.saturating_duration_since(Instant::now()))?;
        for (place, reply) in replies.into_iter().enumerate() {
            let Value::ServerError(error) = reply else {
                continue;
            };
            if place == 0
                && with_user
                && error
                    .details()
                    .is_some_and(|d| d.contains("wrong number of arguments"))
            {
                return Ok(Hello::NoUsers);
            }
            return Err(without_password(server_fault(&error, None), login));
        }
        Ok(Hello::Welcome)
    }
}

enum Hello {
    Welcome,
    NoUsers,
}

/// Removes the password from an error: a server that does not know AUTH repeats its arguments.
fn without_password(fault: ServerFault, login: Option<&Login>) -> ServerFault {
    let Some(login) = login.filter(|login| !login.password.is_empty()) else {
        return fault;
    };
    fault.map(|text| match text.contains(&login.password) {
        // Masking it in place would reveal the password if it is a word of the text.
        true => "AUTH was refused".to_owned(),
        false => text,
    })
}
