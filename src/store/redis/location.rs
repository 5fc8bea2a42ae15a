//! Parses the URL of a server and describes the server without its password.

use std::net::IpAddr;
use std::time::Duration;

use ::redis::io::tcp::TcpSettings;
use ::redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use socket2::TcpKeepalive;
use url::Url;

use crate::store::{Result, StoreError, redacted};

/// How often an idle connection sends keepalives, so that a NAT or firewall does not drop it.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A server and how to log in there.
pub(super) struct Address {
    /// Only opens connections. The client gets neither password nor database, because the crate's
    /// own login reads one reply after the other, each with the whole timeout.
    pub client: Client,
    /// For `AUTH`, if there is a password.
    pub login: Option<Login>,
    /// For `SELECT`, if it is not 0.
    pub database: i64,
    /// For people, without any password: `redis://host:6379/0`.
    pub location: String,
    /// Whether the address is on this machine, where transferring bytes is cheap.
    pub is_near: bool,
}

pub(super) struct Login {
    pub user: Option<String>,
    pub password: String,
}

impl Address {
    /// Reads `redis://`, `rediss://`, `valkey(s)://` and `redis+unix://`, `unix://` URLs.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || StoreError::Url(redacted(text));
        let url = Url::parse(text).map_err(|_| bad())?;
        let info: ConnectionInfo = url.clone().into_connection_info().map_err(|_| bad())?;
        let settings = info.redis_settings();
        let database = settings.db();
        if database < 0 {
            return Err(bad());
        }
        let login = settings.password().map(|password| Login {
            user: settings.username().map(str::to_owned),
            password: password.to_owned(),
        });
        let location = location(&url, info.addr(), database);
        let is_near = is_near(info.addr());
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            // Fails if the process has already installed one, which works too.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let bare = info
            .set_redis_settings(RedisConnectionInfo::default().set_skip_set_lib_name())
            .set_tcp_settings(
                TcpSettings::default().set_keepalive(TcpKeepalive::new().with_time(KEEP_ALIVE)),
            );
        Ok(Address {
            client: Client::open(bare).map_err(|_| bad())?,
            login,
            database,
            location,
            is_near,
        })
    }
}

fn location(url: &Url, address: &ConnectionAddr, database: i64) -> String {
    let scheme = url.scheme();
    match address {
        ConnectionAddr::Tcp(..) | ConnectionAddr::TcpTls { .. } => {
            // `host_str` keeps the brackets of an IPv6 address.
            format!(
                "{scheme}://{}:{}/{database}",
                url.host_str().unwrap_or_default(),
                url.port().unwrap_or(6379)
            )
        }
        ConnectionAddr::Unix(path) if database == 0 => format!("{scheme}://{}", path.display()),
        ConnectionAddr::Unix(path) => format!("{scheme}://{}?db={database}", path.display()),
        _ => format!("{scheme}://…"),
    }
}

fn is_near(address: &ConnectionAddr) -> bool {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => {
            host == "localhost"
                || host
                    .trim_matches(['[', ']'])
                    .parse()
                    .is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        ConnectionAddr::Unix(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn passwords_are_left_out() {
        for (text, shown) in [
            ("redis://:secret@host", "redis://host:6379/0"),
            ("redis://ann:secret@host:7000/3", "redis://host:7000/3"),
            ("rediss://:secret@[::1]:7000", "rediss://[::1]:7000/0"),
            ("valkey://host", "valkey://host:6379/0"),
            (
                "redis+unix:///run/redis.sock?db=2&pass=secret",
                "redis+unix:///run/redis.sock?db=2",
            ),
            (
                "unix:///run/redis.sock?pass=secret",
                "unix:///run/redis.sock",
            ),
        ] {
            assert_eq!(Address::parse(text).unwrap().location, shown);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_its_password() {
        for text in [
            "redis://:secret@host:port/0",
            "redis://:se@cr/et@host:x",
            "redis://:secret@host/notanumber",
            "redis://:secret@host/-1",
            "redis+unix://run/redis.sock?pass=secret",
            "redis+unix:///run/redis.sock?pass=secret&db=x",
        ] {
            let error = Address::parse(text).err().unwrap().to_string();
            assert!(
                error.contains("is not a store")
                    && !error.contains("secret")
                    && !error.contains("cr/et"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_on_this_machine_is_near() {
        for near in [
            "redis://localhost",
            "redis://127.0.0.1:7000/3",
            "rediss://[::1]",
            "unix:///run/redis.sock",
        ] {
            assert!(Address::parse(near).unwrap().is_near, "{near}");
        }
        for far in [
            "redis://host",
            "redis://10.0.0.5/0",
            "rediss://[fe80::1]:7000",
        ] {
            assert!(!Address::parse(far).unwrap().is_near, "{far}");
        }
    }

    #[test]
    fn login_and_database_are_read() {
        let address = Address::parse("redis://ann:s%40crit@host/4").unwrap();
        let login = address.login.unwrap();
        assert_eq!(
            (
                login.user.as_deref(),
                login.password.as_str(),
                address.database
            ),
            (Some("ann"), "s@crit", 4)
        );
    }
}
