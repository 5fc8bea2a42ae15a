//! Which store a command works on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::output::{Usage, say};
use crate::store::{self, Options, Place, Store, StoreError};
use crate::tracker::Tracker;

/// The store when none is named.
pub const DEFAULT_STORE: &str = "./cohortist.db";

/// How long a command waits for another one that has the store.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);

/// A store as named on the command line.
pub struct StoreConfig {
    text: String,
    options: Options,
}

impl StoreConfig {
    pub fn new(text: String, options: Options) -> Result<Self, Usage> {
        Place::parse(&text).map_err(|error| Usage(error.to_string()))?;
        Ok(StoreConfig { text, options })
    }

    /// The store's name, fit to be printed.
    pub fn shown(&self) -> String {
        if self.path().is_some() { self.text.clone() } else { store::redacted(&self.text) }
    }

    pub fn prefix(&self) -> &str {
        self.options.prefix.as_str()
    }

    fn path(&self) -> Option<&Path> {
        match Place::parse(&self.text) {
            Ok(Place::Directory(path)) => Some(path),
            _ => None,
        }
    }

    /// Opens it to write: a new path store is made without a word.
    pub fn open(&self) -> anyhow::Result<Tracker> {
        self.open_with(&self.options)
    }

    /// Opens it to ask something: none is made where there is none, as a slip in a path would make it.
    pub fn open_to_read(&self) -> anyhow::Result<Tracker> {
        self.open_with(&Options { create: false, ..self.options.clone() })
    }

    fn open_with(&self, options: &Options) -> anyhow::Result<Tracker> {
        let tracker = Tracker::new(self.wait_and_open(options)?);
        if self.path().is_some() {
            tracker.describe()?.notes.iter().for_each(|note| say!("note: {note}"));
        }
        Ok(tracker)
    }

    /// One process owns a path store. Another command is done in no time, so it is worth waiting for a little.
    fn wait_and_open(&self, options: &Options) -> store::Result<Arc<dyn Store>> {
        let until = Instant::now() + WAIT_FOR_OTHERS;
        loop {
            match store::open(&self.text, options) {
                Err(StoreError::Locked(_)) if Instant::now() < until => std::thread::sleep(WAIT_FOR_OTHERS / 40),
                result => return result,
            }
        }
    }

    /// A message without the password that the store's text may hold.
    pub fn without_password(&self, message: &str) -> String {
        message.replace(&self.text, &self.shown())
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
            ("redis+unix:///run/r.sock?db=1&pass=hunter2", "redis+unix:///run/r.sock?…"),
            ("./an@odd?path.db", "./an@odd?path.db"),
        ] {
            let config = StoreConfig::new(text.into(), Options::default()).ok().unwrap();
            assert_eq!(config.shown(), shown);
            assert_eq!(config.without_password(&format!("bad: {text}.")), format!("bad: {shown}."));
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_list() {
        for text in
            ["http://:hunter2@localhost", "redis:localhost", "localhost:6379", "memory:x", "memory", "postgres://x", ""]
        {
            let error = StoreConfig::new(text.into(), Options::default()).err().unwrap().to_string();
            assert!(error.contains("redis://host:6379/0") && !error.contains("hunter2"), "{error}");
        }
        assert!(StoreConfig::new("C:\\data\\x.db".into(), Options::default()).is_ok());
    }
}
