//! What the server shows now. A reload of the configuration puts another dashboard in its place; a
//! request that is under way keeps the one it began with.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest};
use tokio::sync::watch;

use crate::peers::{AuthFailures, Endpoint};
use crate::server::outgoing::Unread;
use crate::server::{Dashboard, State};
use crate::store::budget::Shares;

/// How long a client may send nothing in the middle of a request, unless
/// [`Settings`](crate::server::Settings) say otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The one place that holds the dashboard being served, and what all requests share. Clones share
/// it.
#[derive(Debug, Clone)]
pub struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    shown: RwLock<Arc<Shown>>,
    /// Wrong tokens.
    failures: AuthFailures,
    unread: Unread,
    patience: RwLock<Duration>,
    /// Whether the server is stopping and waits no longer.
    cut_off: watch::Sender<bool>,
}

/// A dashboard with the state of each of its stores.
#[derive(Debug)]
struct Shown {
    dashboard: Arc<Dashboard>,
    states: Vec<Arc<State>>,
}

impl Shown {
    fn new(dashboard: Dashboard) -> Arc<Self> {
        let dashboard = Arc::new(dashboard);
        let stores = dashboard.stores.iter().enumerate();
        let states = stores
            .map(|(i, store)| Arc::new(State::of(&dashboard, i, store)))
            .collect();
        Arc::new(Shown { dashboard, states })
    }
}

impl From<Dashboard> for Live {
    fn from(dashboard: Dashboard) -> Self {
        let unread = Unread::new(Shares::answers_of(dashboard.memory.size()));
        Live(Arc::new(Shared {
            unread,
            shown: RwLock::new(Shown::new(dashboard)),
            failures: AuthFailures::new(Endpoint::Http),
            patience: RwLock::new(PATIENCE),
            cut_off: watch::Sender::new(false),
        }))
    }
}

impl Live {
    fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.0.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The dashboard being served.
    pub fn dashboard(&self) -> Arc<Dashboard> {
        Arc::clone(&self.shown().dashboard)
    }

    /// Serves another dashboard from the next request on. It must have as many stores under the
    /// same names: their addresses were given out when the server started. Pages kept for the one
    /// before are not used for it.
    pub fn replace(&self, dashboard: Dashboard) {
        let page_cache = dashboard.page_cache.emptied();
        let shown = Shown::new(Dashboard {
            page_cache,
            ..dashboard
        });
        *self.0.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Wrong tokens so far.
    pub(super) fn failures(&self) -> &AuthFailures {
        &self.0.failures
    }

    pub(super) fn unread(&self) -> &Unread {
        &self.0.unread
    }

    /// How many bytes of large answers clients have not read yet.
    pub fn unread_bytes(&self) -> u64 {
        self.0.unread.used()
    }

    /// How long a client may send nothing in the middle of a body.
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

    /// Answers every request that is under way at once: the server stops.
    pub(super) fn cut_off_all(&self) {
        self.0.cut_off.send_replace(true);
    }

    /// Ends when that happens.
    pub(super) async fn cut_off(&self) {
        let mut cut_off = self.0.cut_off.subscribe();
        // Its sender lives as long as this.
        let _ = cut_off.wait_for(|cut| *cut).await;
    }
}

/// Which of the dashboard's stores an address is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(pub usize);

/// The state a request is about: for all of the request the one that was there when it was first
/// asked for.
pub(super) fn state(request: &HttpRequest) -> Option<Arc<State>> {
    let Place(index) = *request.app_data::<Place>()?;
    if let Some(state) = request.extensions().get::<Arc<State>>() {
        return Some(Arc::clone(state));
    }
    let state = Arc::clone(request.app_data::<Live>()?.shown().states.get(index)?);
    request.extensions_mut().insert(Arc::clone(&state));
    Some(state)
}
