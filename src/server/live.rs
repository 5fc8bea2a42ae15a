//! The dashboard that is being served. Reloading the configuration replaces it. A request in
//! progress keeps the dashboard it started with.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest};
use tokio::sync::watch;

use crate::peers::{AuthFailures, Endpoint};
use crate::server::outgoing::Unread;
use crate::server::{Dashboard, State};
use crate::store::budget::Shares;

/// How long a client may pause within a request, unless [`Settings`](crate::server::Settings)
/// change it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Holds the dashboard being served, and the state that all requests share. Clones share it.
#[derive(Debug, Clone)]
pub struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    served: RwLock<Arc<Served>>,
    /// Counts wrong tokens.
    failures: AuthFailures,
    unread: Unread,
    patience: RwLock<Duration>,
    /// Whether the server is stopping and no longer waits for requests.
    cut_off: watch::Sender<bool>,
}

/// A dashboard with the state of each of its stores.
#[derive(Debug)]
struct Served {
    dashboard: Arc<Dashboard>,
    states: Vec<Arc<State>>,
}

impl Served {
    fn new(dashboard: Dashboard) -> Arc<Self> {
        let dashboard = Arc::new(dashboard);
        let stores = dashboard.stores.iter().enumerate();
        let states = stores
            .map(|(i, store)| Arc::new(State::of(&dashboard, i, store)))
            .collect();
        Arc::new(Served { dashboard, states })
    }
}

impl From<Dashboard> for Live {
    fn from(dashboard: Dashboard) -> Self {
        let unread = Unread::new(Shares::answers_of(dashboard.memory.size()));
        Live(Arc::new(Shared {
            unread,
            served: RwLock::new(Served::new(dashboard)),
            failures: AuthFailures::new(Endpoint::Http),
            patience: RwLock::new(PATIENCE),
            cut_off: watch::Sender::new(false),
        }))
    }
}

impl Live {
    fn served(&self) -> Arc<Served> {
        Arc::clone(&self.0.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the dashboard being served.
    pub fn dashboard(&self) -> Arc<Dashboard> {
        Arc::clone(&self.served().dashboard)
    }

    /// Replaces the dashboard for later requests. The new one must have the same store names in the
    /// same order, because their addresses are fixed when the server starts. Pages cached for the
    /// old dashboard are not reused.
    pub fn replace(&self, dashboard: Dashboard) {
        let page_cache = dashboard.page_cache.emptied();
        let served = Served::new(Dashboard {
            page_cache,
            ..dashboard
        });
        *self
            .0
            .served
            .write()
            .unwrap_or_else(PoisonError::into_inner) = served;
    }

    /// Returns the counter of wrong tokens.
    pub(super) fn failures(&self) -> &AuthFailures {
        &self.0.failures
    }

    pub(super) fn unread(&self) -> &Unread {
        &self.0.unread
    }

    /// Returns the size of large responses that clients have not read yet, in bytes.
    pub fn unread_bytes(&self) -> u64 {
        self.0.unread.used()
    }

    /// Returns how long a client may pause within a body.
    pub(super) fn patience(&self) -> Duration {
        *self
            .0
            .patience
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_patience(&self, patience: Duration) {
        *self
            .0
            .patience
            .write()
            .unwrap_or_else(PoisonError::into_inner) = patience;
    }

    /// Answers all requests in progress at once, because the server stops.
    pub(super) fn cut_off_all(&self) {
        self.0.cut_off.send_replace(true);
    }

    /// Waits until [`cut_off_all`](Self::cut_off_all) is called.
    pub(super) async fn cut_off(&self) {
        let mut cut_off = self.0.cut_off.subscribe();
        // Cannot fail: `self` keeps the sender alive.
        let _ = cut_off.wait_for(|cut| *cut).await;
    }
}

/// The index of the store that an address belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreIndex(pub usize);

/// Returns the state for a request. A request keeps the state that it first got, even if the
/// configuration is reloaded.
pub(super) fn state(request: &HttpRequest) -> Option<Arc<State>> {
    let StoreIndex(index) = *request.app_data::<StoreIndex>()?;
    if let Some(state) = request.extensions().get::<Arc<State>>() {
        return Some(Arc::clone(state));
    }
    let state = Arc::clone(request.app_data::<Live>()?.served().states.get(index)?);
    request.extensions_mut().insert(Arc::clone(&state));
    Some(state)
}
