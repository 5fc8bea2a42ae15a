//! Which store a text names, and how to open it.

use std::path::Path;
use std::sync::Arc;

use crate::store::embedded::EmbeddedStore;
#[cfg(feature = "cluster")]
use crate::store::redis::ClusterStore;
#[cfg(feature = "redis")]
use crate::store::redis::RedisStore;
use crate::store::{Options, PaddedKeys, Result, Store, StoreError, redacted};

/// Opens the store that `text` names: a path, `memory:`, `redis://…`, `rediss://…`,
/// `redis+unix:///…` or `redis-cluster://…`.
///
/// ```
/// use cohortist::store::{self, Options, StoreError};
///
/// let store = store::open("memory:", &Options::default())?;
/// assert!(store.keys("")?.is_empty());
///
/// // Text that looks like a typo is refused.
/// assert!(matches!(store::open("localhost:6379", &Options::default()), Err(StoreError::Url(_))));
/// # // `scripts/test` also runs this without features.
/// # let refused = |text| store::open(text, &Options::default()).err();
/// # #[cfg(not(feature = "redis"))]
/// # assert!(matches!(
/// #     refused("rediss://:secret@host/0"),
/// #     Some(StoreError::FeatureDisabled { feature: "redis", location }) if location == "rediss://…@host/0"
/// # ));
/// # #[cfg(not(feature = "cluster"))]
/// # assert!(refused("redis-cluster://host").is_some_and(|error| error.to_string().contains("`cluster`")));
/// # Ok::<(), StoreError>(())
/// ```
///
/// # Errors
/// If the text is none of these, or the embedded store cannot be opened;
/// [`StoreError::FeatureDisabled`] without the Cargo feature `redis` or `cluster`. A Redis that
/// does not answer is not an error here: each request tries to connect.
pub fn open(text: &str, options: &Options) -> Result<Arc<dyn Store>> {
    let store: Arc<dyn Store> = match Place::parse(text)? {
        Place::Memory => Arc::new(EmbeddedStore::in_memory(options)),
        Place::Directory(path) => Arc::new(EmbeddedStore::open(path, options)?),
        #[cfg(feature = "redis")]
        Place::Redis => Arc::new(RedisStore::new(text, options)?),
        #[cfg(feature = "cluster")]
        Place::Cluster => Arc::new(ClusterStore::new(text, options)?),
        #[cfg(not(feature = "cluster"))]
        place => return Err(needs_feature(text, place)),
    };
    Ok(Arc::new(PaddedKeys::new(store)))
}

#[cfg(not(feature = "cluster"))]
fn needs_feature(text: &str, place: Place) -> StoreError {
    let feature = match place {
        Place::Cluster => "cluster",
        _ => "redis",
    };
    StoreError::FeatureDisabled {
        location: redacted(text),
        feature,
    }
}

/// Opens the embedded store that `text` names: a path or `memory:`. Returns `None` if it names a
/// store on a server. [`EmbeddedStore::shared`] makes it what [`open`] returns.
///
/// # Errors
/// Those of [`open`].
pub fn open_embedded(text: &str, options: &Options) -> Result<Option<EmbeddedStore>> {
    match Place::parse(text)? {
        Place::Memory => Ok(Some(EmbeddedStore::in_memory(options))),
        Place::Directory(path) => EmbeddedStore::open(path, options).map(Some),
        Place::Redis | Place::Cluster => Ok(None),
    }
}

/// The kind of place that the text of `--store` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// `memory:`
    Memory,
    /// The URL of a Redis.
    Redis,
    /// The URLs of nodes of a cluster.
    Cluster,
    /// Any other path.
    Directory(&'a Path),
}

impl<'a> Place<'a> {
    /// Parses the text. Likely typos are refused: `redis:localhost`, `http://…`, `localhost:6379`,
    /// `memory`; a path of such a name is written `./memory`.
    ///
    /// # Errors
    /// [`StoreError::Url`], without any password, if the text names no store.
    pub fn parse(text: &'a str) -> Result<Self> {
        const SCHEMES: [&str; 6] = ["redis", "rediss", "redis+unix", "unix", "valkey", "valkeys"];
        const OF_CLUSTERS: [&str; 4] = [
            "redis-cluster",
            "rediss-cluster",
            "valkey-cluster",
            "valkeys-cluster",
        ];
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Place::Memory),
            Some((scheme, rest)) if SCHEMES.contains(&scheme) && rest.starts_with("//") => {
                Ok(Place::Redis)
            }
            Some((scheme, rest)) if OF_CLUSTERS.contains(&scheme) && rest.starts_with("//") => {
                Ok(Place::Cluster)
            }
            Some((scheme, rest))
                if rest.starts_with("//")
                    || scheme == "memory"
                    || [&SCHEMES[..], &OF_CLUSTERS].concat().contains(&scheme) =>
            {
                Err(StoreError::Url(redacted(text)))
            }
            _ if text.is_empty() || text == "memory" || is_host_and_port(text) => {
                Err(StoreError::Url(redacted(text)))
            }
            _ => Ok(Place::Directory(Path::new(text))),
        }
    }
}

fn is_host_and_port(text: &str) -> bool {
    let parts = text
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty() && !host.contains(['/', '\\']));
    parts.is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}
