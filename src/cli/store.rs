//! The stores a command works on.

use std::path::Path;

use anyhow::Context as _;

use crate::calendar::Zone;
use crate::cli::config::{Entry, File};
use crate::cli::expiry::Expiry;
use crate::cli::output::{Usage, note, status};
use crate::sets::{Prefix, Segments};
use crate::store::budget::Shares;
use crate::store::embedded::{self, Checked, EmbeddedStore};
use crate::store::{self, Options, Place, Store};
use crate::tracker::{Ids, Tracker};

/// The store if none is named.
pub const DEFAULT_STORE: &str = "./cohortist.db";

/// The name of a store on the dashboard and in metrics if the configuration gives it none.
const UNNAMED: &str = "store";

/// A store as named on the command line.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    text: String,
    options: Options,
    segments: Segments,
    ids: Option<Ids>,
    kept_in: Option<Zone>,
}

impl StoreConfig {
    pub fn new(text: String, options: Options) -> Result<Self, Usage> {
        Place::parse(&text).map_err(|error| Usage(error.to_string()))?;
        Ok(StoreConfig {
            text,
            options,
            segments: Segments::default(),
            ids: None,
            kept_in: None,
        })
    }

    pub fn with_segments(self, segments: Segments) -> Self {
        StoreConfig { segments, ..self }
    }

    pub fn with_ids(self, ids: Option<Ids>) -> Self {
        StoreConfig { ids, ..self }
    }

    /// The same store, kept in this zone.
    pub fn with_zone(self, kept_in: Option<Zone>) -> Self {
        StoreConfig { kept_in, ..self }
    }

    /// The zone in which the store shall be kept, if the configuration names one.
    pub fn kept_in(&self) -> Option<Zone> {
        self.kept_in
    }

    /// The same store with its part of the memory that `stores` embedded stores share.
    pub fn with_memory(mut self, shares: &Shares, stores: u64) -> Self {
        self.options.cache_bytes = shares.cache_of(stores);
        self.options.checkpoint_bytes = shares.checkpoint(stores);
        self
    }

    pub fn with_prefix(mut self, prefix: Prefix) -> Self {
        self.options.prefix = prefix;
        self
    }

    /// The kind of user ids, if `--ids` was given.
    pub fn ids(&self) -> Option<Ids> {
        self.ids
    }

    /// Whether both are the same keys of the same store, as far as can be told without opening
    /// them.
    pub fn is_same_place(&self, other: &StoreConfig) -> bool {
        match (self.path(), other.path()) {
            // A process can open a store at a path only once, with one prefix.
            (Some(_), Some(_)) => self.identity() == other.identity(),
            _ => self.is_same_text(other),
        }
    }

    /// Whether both were given in the same words.
    pub fn is_same_text(&self, other: &StoreConfig) -> bool {
        self.text == other.text && self.prefix() == other.prefix()
    }

    /// Prints the location of a store that was opened to write, and whether it was created.
    pub fn print_location(&self, name: Option<&str>, tracker: &Tracker) -> anyhow::Result<()> {
        let name = name.map_or("store".to_owned(), |name| format!("store {name}"));
        match Place::parse(&self.text) {
            Ok(Place::Directory(_)) => {
                let info = tracker.describe()?;
                let state = if info.created { "created" } else { "opened" };
                status!("{name}: {}, {state}", info.location);
            }
            Ok(Place::Memory) => status!("{name}: in memory, lost when this process ends"),
            _ => status!("{name}: {}, prefix {}", self.display(), self.prefix()),
        }
        Ok(())
    }

    /// The store as it was named, without a password.
    pub fn display(&self) -> String {
        if self.path().is_some() {
            self.text.clone()
        } else {
            store::redacted(&self.text)
        }
    }

    pub fn prefix(&self) -> &str {
        self.options.prefix.as_str()
    }

    /// A text that identifies the store, without a password: an absolute path if it exists.
    pub fn identity(&self) -> String {
        match self.path() {
            Some(path) => path
                .canonicalize()
                .unwrap_or_else(|_| path.to_owned())
                .display()
                .to_string(),
            None => self.display(),
        }
    }

    /// Whether it is a Redis server or a Redis Cluster.
    pub fn is_redis(&self) -> bool {
        matches!(Place::parse(&self.text), Ok(Place::Redis | Place::Cluster))
    }

    pub fn is_cluster(&self) -> bool {
        matches!(Place::parse(&self.text), Ok(Place::Cluster))
    }

    pub fn path(&self) -> Option<&Path> {
        match Place::parse(&self.text) {
            Ok(Place::Directory(path)) => Some(path),
            _ => None,
        }
    }

    /// Opens the store to write. Creates a store at a path that does not exist.
    pub fn open(&self) -> anyhow::Result<Tracker> {
        Ok(self.open_with(&self.options)?.0)
    }

    /// Opens the store to read. Creates nothing, so that a misspelt path is an error.
    pub fn open_to_read(&self) -> anyhow::Result<Tracker> {
        let options = Options {
            create: false,
            ..self.options.clone()
        };
        Ok(self.open_with(&options)?.0)
    }

    /// The path of the store. `action` is what can only be done to a store at a path, for the
    /// error.
    pub fn require_path(&self, action: &str) -> Result<&Path, Usage> {
        self.path().ok_or_else(|| {
            let shown = self.display();
            Usage(format!(
                "only a store at a path can be {action}, not {shown}. Copy it to one with `cohortist copy {shown} ./cohortist.db`"
            ))
        })
    }

    /// Checks the files of a store at a path.
    pub fn check(&self) -> anyhow::Result<Checked> {
        let path = self.require_path("checked")?;
        Ok(embedded::check(path)?)
    }

    /// Opens a Redis server as a space of keys of any type.
    pub fn open_server(&self) -> store::Result<store::redis::Server> {
        store::redis::Server::new(&self.text, &self.options)
    }

    /// Opens an embedded store. Creates one that does not exist if `create` is set.
    pub fn open_embedded(&self, create: bool) -> anyhow::Result<EmbeddedStore> {
        let options = Options {
            create,
            ..self.options.clone()
        };
        self.open_if_embedded(&options)?
            .with_context(|| self.not_embedded())
    }

    /// Opens an embedded store to read, with its tracker.
    pub fn open_embedded_to_read(&self) -> anyhow::Result<(Tracker, EmbeddedStore)> {
        let options = Options {
            create: false,
            ..self.options.clone()
        };
        let (tracker, embedded) = self.open_with(&options)?;
        Ok((tracker, embedded.with_context(|| self.not_embedded())?))
    }

    fn not_embedded(&self) -> String {
        format!("{} is not an embedded store", self.display())
    }

    /// Opens the store to write. Also returns the embedded store, if it is one.
    pub fn open_with_embedded(&self) -> anyhow::Result<(Tracker, Option<EmbeddedStore>)> {
        self.open_with(&self.options)
    }

    fn open_with(&self, options: &Options) -> anyhow::Result<(Tracker, Option<EmbeddedStore>)> {
        let embedded = self.open_if_embedded(options)?;
        let store = match &embedded {
            Some(embedded) => embedded.clone().shared(),
            None => store::open(&self.text, options)?,
        };
        let mut tracker = Tracker::new(store).with_segments(self.segments.clone());
        if let Some(ids) = self.ids {
            tracker = tracker.with_ids(ids);
        }
        if let Some(zone) = self.kept_in {
            tracker = tracker.with_zone(zone);
            // A server may be unreachable, and is asked later.
            match options.create && embedded.is_some() {
                true => tracker.settle_zone().map(drop)?,
                false if embedded.is_some() => tracker.kept_in().map(drop)?,
                false => {}
            }
        }
        Ok((tracker, embedded))
    }

    /// Opens an embedded store. Returns `None` if the store is a server.
    fn open_if_embedded(&self, options: &Options) -> anyhow::Result<Option<EmbeddedStore>> {
        let embedded = store::open_embedded(&self.text, options)?;
        if let Some(embedded) = &embedded
            && self.path().is_some()
        {
            for note in embedded.describe()?.notes {
                note!("{note}");
            }
        }
        Ok(embedded)
    }

    /// Removes the password, if any, from a message that may contain the store's text.
    pub fn without_password(&self, message: &str) -> String {
        message.replace(&self.text, &self.display())
    }
}

/// The stores a command may work on.
pub struct Stores {
    /// The store of commands that work on one.
    pub default: StoreConfig,
    /// All stores of a dashboard, the default one first.
    pub all: Vec<NamedStoreConfig>,
}

/// A store with its name on the dashboard.
#[derive(Clone)]
pub struct NamedStoreConfig {
    pub name: String,
    /// Whether the configuration gave it that name.
    has_own_name: bool,
    pub store: StoreConfig,
    pub read_only: bool,
    /// How long its bitmaps are kept.
    pub expire: Expiry,
}

impl NamedStoreConfig {
    fn new(
        name: Option<&str>,
        store: StoreConfig,
        file: &File,
        ids: Option<Ids>,
        read_only: bool,
        expire: Expiry,
    ) -> Self {
        NamedStoreConfig {
            name: name.unwrap_or(UNNAMED).to_owned(),
            has_own_name: name.is_some(),
            store: store.with_segments(file.segments.clone()).with_ids(ids),
            read_only,
            expire,
        }
    }

    /// What messages call the store: its name in the configuration, or its location.
    pub fn display(&self) -> String {
        if self.has_own_name {
            self.name.clone()
        } else {
            self.store.display()
        }
    }

    /// Adds the name of the store to an error. Errors contain the location already.
    pub fn with_name(&self, error: anyhow::Error) -> anyhow::Error {
        if self.has_own_name {
            error.context(format!("store {}", self.name))
        } else {
            error
        }
    }
}

impl Stores {
    /// Finds the stores. `given` is the value of `--store`: the name of a store in the file, or a
    /// store that is not in the file. Without it, the stores are those of the file, or the default
    /// path. `own_default` is the default of a command that ignores the file's stores.
    ///
    /// If the file names stores, its `[expire]` applies only to those. Nothing is deleted from
    /// another store that happens to be served in the same directory.
    pub fn new(
        given: Option<String>,
        own_default: Option<&str>,
        file: &File,
        options: &Options,
        ids: Option<Ids>,
    ) -> Result<Self, Usage> {
        let from_file = |entry: &Entry| {
            let options = Options {
                prefix: entry.prefix.clone().unwrap_or(options.prefix.clone()),
                ..options.clone()
            };
            let store = StoreConfig::new(entry.store.clone(), options)?.with_zone(entry.kept_in);
            Ok(NamedStoreConfig::new(
                Some(&entry.name),
                store,
                file,
                ids,
                entry.read_only,
                entry.expire.clone(),
            ))
        };
        let from_text = |text: &str| {
            let store = StoreConfig::new(text.to_owned(), options.clone())?;
            let expire = if file.stores.is_empty() {
                file.expire.clone()
            } else {
                Expiry::default()
            };
            Ok(NamedStoreConfig::new(
                None,
                store,
                file,
                ids,
                file.read_only,
                expire,
            ))
        };
        let all: Vec<NamedStoreConfig> = match given.as_deref().or(own_default) {
            Some(text) => {
                let named = |entry: &&Entry| given.is_some() && entry.name == text;
                vec![match file.stores.iter().find(named) {
                    Some(entry) => from_file(entry)?,
                    None => from_text(text)?,
                }]
            }
            None if file.stores.is_empty() => vec![from_text(DEFAULT_STORE)?],
            None => file
                .stores
                .iter()
                .map(from_file)
                .collect::<Result<_, Usage>>()?,
        };
        Ok(Stores {
            default: all[0].store.clone(),
            all,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for (text, expected) in [
            ("redis://localhost/0", "redis://localhost/0"),
            ("redis://:hunter2@localhost", "redis://…@localhost"),
            ("rediss://me:p@ss/w:rd@host:1/0", "rediss://…@host:1/0"),
            (
                "redis+unix:///run/r.sock?db=1&pass=hunter2",
                "redis+unix:///run/r.sock?…",
            ),
            ("./an@odd?path.db", "./an@odd?path.db"),
        ] {
            let config = StoreConfig::new(text.into(), Options::default())
                .ok()
                .unwrap();
            assert_eq!(config.display(), expected);
            assert_eq!(
                config.without_password(&format!("bad: {text}.")),
                format!("bad: {expected}.")
            );
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_list_of_stores() {
        for text in [
            "http://:hunter2@localhost",
            "redis:localhost",
            "localhost:6379",
            "memory:x",
            "memory",
            "postgres://x",
            "",
        ] {
            let error = StoreConfig::new(text.into(), Options::default())
                .err()
                .unwrap()
                .to_string();
            assert!(
                error.contains("redis://host:6379/0") && !error.contains("hunter2"),
                "{error}"
            );
        }
        assert!(StoreConfig::new("C:\\data\\x.db".into(), Options::default()).is_ok());
    }
}
