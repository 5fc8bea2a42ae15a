//! Which store a command works on.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::cli::config::{Entry, File};
use crate::cli::expire::Expiry;
use crate::cli::output::{Usage, say};
use crate::sets::{Prefix, Segments};
use crate::store::budget::Shares;
use crate::store::embedded::{self, Checked, EmbeddedStore};
use crate::store::{self, Options, Place, Store, StoreError};
use crate::tracker::{Ids, Tracker};

/// The store when none is named.
pub const DEFAULT_STORE: &str = "./cohortist.db";

/// What a store is called on the dashboard and in metrics when the configuration does not name it.
const UNNAMED: &str = "store";

/// How long a command waits for another one that has the store.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);

/// A store as named on the command line.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    text: String,
    options: Options,
    segments: Segments,
    ids: Option<Ids>,
}

impl StoreConfig {
    pub fn new(text: String, options: Options) -> Result<Self, Usage> {
        Place::parse(&text).map_err(|error| Usage(error.to_string()))?;
        Ok(StoreConfig {
            text,
            options,
            segments: Segments::default(),
            ids: None,
        })
    }

    /// The same with saved segments.
    pub fn with_segments(self, segments: Segments) -> Self {
        StoreConfig { segments, ..self }
    }

    /// The same with users who are called so.
    pub fn with_ids(self, ids: Option<Ids>) -> Self {
        StoreConfig { ids, ..self }
    }

    /// The same as one of so many embedded stores that share memory.
    pub fn with_memory(mut self, shares: &Shares, stores: u64) -> Self {
        self.options.cache_bytes = shares.cache_of(stores);
        self.options.checkpoint_bytes = shares.checkpoint(stores);
        self
    }

    /// How users are called, where it was said.
    pub fn ids(&self) -> Option<Ids> {
        self.ids
    }

    /// The same with keys that begin otherwise.
    pub fn with_prefix(mut self, prefix: Prefix) -> Self {
        self.options.prefix = prefix;
        self
    }

    /// Whether both are the same keys of the same store, as far as their texts tell.
    pub fn is_same_place(&self, other: &StoreConfig) -> bool {
        let place = |config: &StoreConfig| match config.path() {
            Some(path) => std::fs::canonicalize(path)
                .unwrap_or_else(|_| path.to_owned())
                .display()
                .to_string(),
            None => config.text.clone(),
        };
        // A path store belongs to one process, and is opened once.
        place(self) == place(other) && (self.path().is_some() || self.prefix() == other.prefix())
    }

    /// Whether both are written alike, so that the one can stand for the other without being
    /// opened.
    pub fn is_same_text(&self, other: &StoreConfig) -> bool {
        self.text == other.text && self.prefix() == other.prefix()
    }

    /// Says on stderr where the store is that was opened to write, and whether it was made.
    pub fn say_where(&self, name: &str, tracker: &Tracker) -> anyhow::Result<()> {
        let name = if name.is_empty() {
            "store".to_owned()
        } else {
            format!("store {name}")
        };
        match Place::parse(&self.text) {
            Ok(Place::Directory(_)) => {
                let info = tracker.describe()?;
                say!(
                    "{name}: {}, {}",
                    info.location,
                    if info.created { "created" } else { "opened" }
                );
            }
            Ok(Place::Memory) => say!("{name}: in memory, gone when this process ends"),
            _ => say!("{name}: {}, prefix {}", self.shown(), self.prefix()),
        }
        Ok(())
    }

    /// The store's name, fit to be printed.
    pub fn shown(&self) -> String {
        if self.path().is_some() {
            self.text.clone()
        } else {
            store::redacted(&self.text)
        }
    }

    pub fn prefix(&self) -> &str {
        self.options.prefix.as_str()
    }

    /// A text that no other store has, fit to be kept; a path as it is from anywhere, when it is
    /// there.
    pub fn identity(&self) -> String {
        let path = self
            .path()
            .map(|path| path.canonicalize().unwrap_or(path.to_owned()));
        path.map_or_else(|| self.shown(), |path| path.display().to_string())
    }

    /// One server, or a cluster of them.
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

    /// Opens it to write: a new path store is made without a word.
    pub fn open(&self) -> anyhow::Result<Tracker> {
        Ok(self.open_with(&self.options)?.0)
    }

    /// Opens it to ask something: none is made where there is none, as a slip in a path would make
    /// it.
    pub fn open_to_read(&self) -> anyhow::Result<Tracker> {
        let options = Options {
            create: false,
            ..self.options.clone()
        };
        Ok(self.open_with(&options)?.0)
    }

    /// Its path; an error that says what is `done` to stores at a path alone.
    pub fn require_path(&self, done: &str) -> Result<&Path, Usage> {
        self.path().ok_or_else(|| {
            let shown = self.shown();
            Usage(format!(
                "only a store at a path can be {done}, and this is {shown}; `cohortist copy {shown} ./cohortist.db` copies it to one"
            ))
        })
    }

    /// Checks the files of a path store, waiting a little where another command has it open.
    pub fn check(&self) -> anyhow::Result<Checked> {
        let path = self.require_path("checked")?;
        let until = Instant::now() + WAIT_FOR_OTHERS;
        loop {
            match embedded::check(path) {
                Err(StoreError::Locked(_)) if Instant::now() < until => {
                    std::thread::sleep(WAIT_FOR_OTHERS / 40)
                }
                result => return Ok(result?),
            }
        }
    }

    /// All keys of a Redis, whoever made them.
    pub fn open_server(&self) -> store::Result<store::redis::Server> {
        store::redis::Server::new(&self.text, &self.options)
    }

    /// Opens the embedded store that this is; made where there is none if `create` says so.
    pub fn open_embedded(&self, create: bool) -> anyhow::Result<EmbeddedStore> {
        let options = Options {
            create,
            ..self.options.clone()
        };
        self.wait_and_open(&options)?
            .with_context(|| format!("{} is not an embedded store", self.shown()))
    }

    /// Opens it to write, and also returns the embedded store that it is.
    pub fn open_to_serve(&self) -> anyhow::Result<(Tracker, Option<EmbeddedStore>)> {
        self.open_with(&self.options)
    }

    fn open_with(&self, options: &Options) -> anyhow::Result<(Tracker, Option<EmbeddedStore>)> {
        let embedded = self.wait_and_open(options)?;
        let store = match &embedded {
            Some(embedded) => embedded.clone().shared(),
            None => store::open(&self.text, options)?,
        };
        let tracker = Tracker::new(store).with_segments(self.segments.clone());
        let tracker = self.ids.into_iter().fold(tracker, Tracker::with_ids);
        Ok((tracker, embedded))
    }

    /// Opens an embedded store; `None` if it is on a server. One process owns a path store. Other
    /// commands end soon, so it waits for them a little.
    fn wait_and_open(&self, options: &Options) -> anyhow::Result<Option<EmbeddedStore>> {
        let until = Instant::now() + WAIT_FOR_OTHERS;
        let embedded = loop {
            match store::open_embedded(&self.text, options) {
                Err(StoreError::Locked(_)) if Instant::now() < until => {
                    std::thread::sleep(WAIT_FOR_OTHERS / 40)
                }
                result => break result?,
            }
        };
        if let Some(embedded) = &embedded
            && self.path().is_some()
        {
            for note in embedded.describe()?.notes {
                say!("note: {note}");
            }
        }
        Ok(embedded)
    }

    /// A message without the password that the store's text may hold.
    pub fn without_password(&self, message: &str) -> String {
        message.replace(&self.text, &self.shown())
    }
}

impl Named {
    /// How messages call it: by its name in the configuration, or where it has none by its place.
    pub fn called(&self) -> String {
        if self.configured {
            self.name.clone()
        } else {
            self.store.shown()
        }
    }

    /// An error that says which of several stores it is about. Errors name the place already.
    pub fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        if self.configured {
            error.context(format!("store {}", self.name))
        } else {
            error
        }
    }
}

/// The stores a command may work on.
pub struct Stores {
    /// The one for commands that work on one.
    pub default: StoreConfig,
    /// Those a dashboard shows, the default one first.
    pub all: Vec<Named>,
}

/// A store with its name on the dashboard.
#[derive(Clone)]
pub struct Named {
    pub name: String,
    /// Whether the configuration gave it that name.
    configured: bool,
    pub store: StoreConfig,
    pub read_only: bool,
    /// How long its bitmaps are kept by the configuration.
    pub expire: Expiry,
}

impl Stores {
    /// `--store` may name one of the file's stores; any other text stands for itself, and the
    /// file's stores are then left alone. Without it the file's are meant, or else the default
    /// path. `own_default` is that of a command that leaves the file's stores alone.
    ///
    /// A file that names stores speaks of those when it says how long bitmaps are kept: nothing is
    /// deleted of another that happened to be served in the same directory.
    pub fn new(
        given: Option<String>,
        own_default: Option<&str>,
        file: &File,
        options: &Options,
        ids: Option<Ids>,
    ) -> Result<Self, Usage> {
        let one = |name: Option<&str>,
                   text: String,
                   options: Options,
                   read_only: bool,
                   expire: &Expiry| {
            let store = StoreConfig::new(text, options)?
                .with_segments(file.segments.clone())
                .with_ids(ids);
            let configured = name.is_some();
            Ok(Named {
                name: name.unwrap_or(UNNAMED).to_owned(),
                configured,
                store,
                read_only,
                expire: expire.clone(),
            })
        };
        let of_file = |entry: &Entry| {
            let prefix = entry.prefix.clone().unwrap_or(options.prefix.clone());
            let options = Options {
                prefix,
                ..options.clone()
            };
            one(
                Some(&entry.name),
                entry.store.clone(),
                options,
                entry.read_only,
                &entry.expire,
            )
        };
        let other = |text: String| {
            let expire = if file.stores.is_empty() {
                file.expire.clone()
            } else {
                Expiry::default()
            };
            one(None, text, options.clone(), file.read_only, &expire)
        };
        let all: Vec<Named> = match (given, own_default) {
            (Some(text), _) => match file.stores.iter().find(|entry| entry.name == text) {
                Some(entry) => vec![of_file(entry)?],
                None => vec![other(text)?],
            },
            (None, Some(text)) => vec![other(text.to_owned())?],
            (None, None) if file.stores.is_empty() => vec![other(DEFAULT_STORE.to_owned())?],
            (None, None) => file
                .stores
                .iter()
                .map(of_file)
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
        for (text, shown) in [
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
            assert_eq!(config.shown(), shown);
            assert_eq!(
                config.without_password(&format!("bad: {text}.")),
                format!("bad: {shown}.")
            );
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_list() {
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
