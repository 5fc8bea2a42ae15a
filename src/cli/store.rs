//! Which store a command works on.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cli::output::{Usage, say};
use crate::store::{self, Options, Store, StoreError};
use crate::tracker::Tracker;

/// The store when none is named.
pub const DEFAULT_STORE: &str = "./cohortist.db";

/// How long a command waits for another one that has the store.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);

const SCHEMES: [&str; 6] = ["redis", "rediss", "redis+unix", "unix", "valkey", "valkeys"];

/// A store as named on the command line.
pub struct StoreConfig {
    text: String,
    options: Options,
}

impl StoreConfig {
    pub fn new(text: String, options: Options) -> Result<Self, Usage> {
        let config = StoreConfig { text, options };
        match config.text.split_once(':') {
            Some(("memory", "")) => Ok(config),
            Some((scheme, rest)) if rest.starts_with("//") && SCHEMES.contains(&scheme) => Ok(config),
            // `redis:localhost` and `http://…` are slips; `C:\data` and `./a:b` are paths.
            Some((scheme, rest)) if rest.starts_with("//") || scheme == "memory" || SCHEMES.contains(&scheme) => {
                Err(Usage(store::StoreError::Url(redacted(&config.text)).to_string()))
            }
            _ => Ok(config),
        }
    }

    /// The store's name, fit to be printed.
    pub fn shown(&self) -> String {
        redacted(&self.text)
    }

    pub fn prefix(&self) -> &str {
        self.options.prefix.as_str()
    }

    fn path(&self) -> Option<&Path> {
        (self.text != "memory:" && !self.text.contains("://")).then(|| Path::new(&self.text))
    }

    /// Whether opening it will make a new, empty store.
    pub fn is_new(&self) -> bool {
        self.path().is_some_and(|path| !path.exists())
    }

    /// Opens it to write: a new path store is made without a word.
    pub fn open(&self) -> anyhow::Result<Tracker> {
        let tracker = Tracker::new(self.wait_and_open()?);
        if self.path().is_some() {
            tracker.describe()?.notes.iter().for_each(|note| say!("note: {note}"));
        }
        Ok(tracker)
    }

    /// One process owns a path store. Another command is done in no time, so it is worth waiting for a little.
    fn wait_and_open(&self) -> store::Result<Arc<dyn Store>> {
        let until = Instant::now() + WAIT_FOR_OTHERS;
        loop {
            match store::open(&self.text, &self.options) {
                Err(StoreError::Locked(_)) if Instant::now() < until => std::thread::sleep(WAIT_FOR_OTHERS / 40),
                result => return result,
            }
        }
    }

    /// Opens it to ask something: says so when there was nothing to ask.
    pub fn open_to_read(&self) -> anyhow::Result<Tracker> {
        let is_new = self.is_new();
        let tracker = self.open()?;
        if is_new {
            say!(
                "note: there was no store at {}; it is new and empty. Fill it with `cohortist import` or `cohortist mark`, or name another with --store.",
                self.shown()
            );
        }
        Ok(tracker)
    }

    /// A message without the password that the store's text may hold.
    pub fn without_password(&self, message: &str) -> String {
        let mut message = message.replace(&self.text, &self.shown());
        for secret in secrets(&self.text).filter(|secret| secret.len() > 3) {
            message = message.replace(secret, "***");
        }
        message
    }
}

/// The passwords in a store's text: `redis://user:HERE@host`, and `?pass=HERE` of socket addresses.
fn secrets(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split_once(':').map_or("", |(_, rest)| rest.trim_start_matches('/'));
    let login = after.rsplit_once('@').and_then(|(login, _)| Some(login.split_once(':')?.1));
    let query = text.split_once('?').map_or("", |(_, query)| query);
    let values = query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.to_ascii_lowercase().contains("pass").then_some(value)
    });
    login.into_iter().chain(values).filter(|secret| !secret.is_empty())
}

fn redacted(text: &str) -> String {
    secrets(text).fold(text.to_owned(), |shown, secret| {
        shown.replace(&format!(":{secret}@"), ":***@").replace(&format!("={secret}"), "=***")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_never_shown() {
        for (text, shown) in [
            ("redis://localhost/0", "redis://localhost/0"),
            ("redis://:hunter2@localhost", "redis://:***@localhost"),
            ("rediss://me:p@ss/w:rd@host:1/0", "rediss://me:***@host:1/0"),
            ("redis+unix:///run/r.sock?db=1&pass=hunter2", "redis+unix:///run/r.sock?db=1&pass=***"),
            ("./cohortist.db", "./cohortist.db"),
        ] {
            assert_eq!(redacted(text), shown);
        }
        let config = StoreConfig::new("redis://:hunter2@localhost".into(), Options::default()).ok().unwrap();
        assert_eq!(config.without_password("AUTH hunter2 failed"), "AUTH *** failed");
    }

    #[test]
    fn other_addresses_are_refused_with_the_list() {
        for text in ["http://:hunter2@localhost", "redis:localhost", "memory:x", "postgres://x"] {
            let error = StoreConfig::new(text.into(), Options::default()).err().unwrap().to_string();
            assert!(error.contains("redis://host:6379/0") && !error.contains("hunter2"), "{error}");
        }
        assert!(StoreConfig::new("C:\\data\\x.db".into(), Options::default()).is_ok());
    }
}
