//! Where the requests of a store go: to one server, or to the cluster node that owns a slot.

use std::time::Instant;

#[cfg(feature = "cluster")]
use crate::store::redis::cluster::Slot;
use crate::store::redis::connection::{RedisConnection, Reply};
use crate::store::redis::pool::Pool;

/// Where the requests of a store go.
pub(super) enum Route {
    /// To a server.
    Server(Pool),
    /// To the cluster node that owns a slot.
    #[cfg(feature = "cluster")]
    Slot(Slot),
}

impl Route {
    /// Returns the connections to the server, unless requests go to a cluster.
    pub fn server(&self) -> Option<&Pool> {
        match self {
            Route::Server(pool) => Some(pool),
            #[cfg(feature = "cluster")]
            Route::Slot(_) => None,
        }
    }

    /// Returns the address for display, without any password.
    pub fn location(&self) -> &str {
        match self {
            Route::Server(pool) => pool.location(),
            #[cfg(feature = "cluster")]
            Route::Slot(slot) => slot.location(),
        }
    }

    /// Returns whether the server, or the node that owns the slot, is on this machine.
    pub fn is_near(&self) -> bool {
        match self {
            Route::Server(pool) => pool.is_near(),
            #[cfg(feature = "cluster")]
            Route::Slot(slot) => slot.is_near(),
        }
    }

    /// Runs a request on a connection that has just answered. If the slot has moved, the request
    /// runs again on its new node, so what it did on the old one must be safe to repeat.
    pub fn with<T>(&self, run: impl Fn(&mut RedisConnection) -> Reply<T>) -> Reply<T> {
        match self {
            Route::Server(pool) => pool.with(run),
            #[cfg(feature = "cluster")]
            Route::Slot(slot) => slot.with(run),
        }
    }

    /// Opens a connection outside the limits of the pool.
    pub fn connect(&self, end: Instant) -> Reply<RedisConnection> {
        match self {
            Route::Server(pool) => pool.connector().connect(end),
            #[cfg(feature = "cluster")]
            Route::Slot(slot) => slot.connect(end),
        }
    }

    /// In a cluster, waits for a short time until one replica has what was written on this
    /// connection. A replica that does not confirm in time is not an error.
    #[cfg_attr(not(feature = "cluster"), expect(unused_variables))]
    pub fn confirm(&self, conn: &mut RedisConnection) -> Reply<()> {
        match self {
            Route::Server(_) => Ok(()),
            #[cfg(feature = "cluster")]
            Route::Slot(slot) => slot.confirm(conn),
        }
    }
}
