//! The dashboard: an HTTP server, its pages, files and API.
//!
//! A request passes through these files:
//!
//! ```text
//! run (sockets) → connection → app (routes, middleware) → client (Host) → pages/NAME, export or api
//!   → view (the store and the question's address) → work (its turn, a thread that may block)
//!   → respond (page, file or error) → outgoing (until the client has read it)
//! ```
//!
//! A page is a file in [`pages`] with its handler and the struct of its template. Nothing here
//! knows how bitmaps are stored or cohorts are counted.

mod admission;
pub mod api;
mod app;
mod arrival;
pub mod assets;
mod client;
pub mod collect;
mod connection;
mod dashboard;
pub mod error;
pub mod export;
mod exposition;
pub mod files;
mod host;
mod layout;
mod live;
mod log;
mod metrics;
mod outgoing;
mod page_cache;
pub mod pages;
pub mod query;
mod request_id;
mod respond;
mod run;
mod state;
mod view;
mod work;

pub use admission::{Admission, Load};
pub use app::app_config;
pub use collect::{Collect, Origin};
pub use dashboard::{CONNECTIONS, Dashboard, Glossary, NamedStore, Pattern, SLOW, TITLE};
pub use error::Busy;
pub use host::{HostName, Hosts, Network, Proxies};
pub use layout::{Layout, StoreLink};
pub use live::{Live, PATIENCE};
pub use metrics::{expired, expiry_failed, expiry_refused};
pub use page_cache::PageCache;
pub use run::{GRACE, Listening, Settings, run, run_on, run_until};
pub use state::State;
pub use view::View;
