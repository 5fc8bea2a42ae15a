//! SIGHUP: reloads the configuration while the server runs. A file with mistakes changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::{Either, select};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::nightly::{Cleanup, Job, Nightly, cleanup};
use crate::cli::config::File;
use crate::cli::output::{Usage, message};
use crate::cli::store::{NamedStoreConfig, Stores};
use crate::clock::Clock;
use crate::server::{Dashboard, Hosts, Live, NamedStore, TITLE};
use crate::store::Options;
use crate::tracker::Ids;

/// How long a stopping server waits for a reload and the cleanup after it. Both can be interrupted
/// at any point.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// The part of the command line that decides what configuration is read.
#[derive(Clone)]
pub struct Source {
    pub config: Option<PathBuf>,
    pub store: Option<String>,
    pub options: Options,
    pub ids: Option<Ids>,
}

impl Source {
    fn read(&self, clock: Clock) -> Result<(File, Vec<NamedStoreConfig>), Usage> {
        let file = File::find(self.config.as_deref(), true, clock)?;
        let stores = Stores::new(self.store.clone(), None, &file, &self.options, self.ids)?;
        Ok((file, stores.all))
    }
}

/// What a reload works on.
pub struct Reload {
    pub source: Source,
    pub clock: Clock,
    pub live: Live,
    /// The names given with `--host`.
    pub hosts: Hosts,
    pub read_only: bool,
    /// Whether `--collect` is given.
    pub collect: bool,
    /// The current configuration.
    pub file: File,
    pub stores: Vec<NamedStoreConfig>,
    pub nightly: Option<Nightly>,
}

impl Reload {
    /// Reads the configuration and applies it. If it has mistakes, logs them and changes nothing.
    fn reload(&mut self) {
        let (file, stores) = match self.source.read(self.clock) {
            Ok(read) => read,
            Err(Usage(errors)) => {
                for error in errors.lines() {
                    tracing::error!("configuration not reloaded: {error}");
                }
                tracing::error!("the old configuration remains in effect");
                return;
            }
        };
        if file.name.is_empty() {
            if self.file.name.is_empty() {
                tracing::info!("SIGHUP: there is no configuration file to reload");
            } else {
                tracing::error!(
                    "configuration not reloaded: {} does not exist any more; the old configuration remains in effect",
                    self.file.name
                );
            }
            return;
        }
        if !same_stores(&self.stores, &stores) {
            tracing::error!(
                "configuration not reloaded: {} changes which stores are served, or their prefix, kept_in or read_only. \
                 Restart the server to apply this; the old configuration remains in effect",
                file.name
            );
            return;
        }
        if let Err(error) = self.replace_nightly(&file, &stores) {
            let error = message(&error);
            tracing::error!(
                "configuration not reloaded: {error}; the old configuration remains in effect"
            );
            return;
        }
        let current = self.live.dashboard();
        let with_segments = |store: &NamedStore| NamedStore {
            tracker: store.tracker.clone().with_segments(file.segments.clone()),
            ..store.clone()
        };
        self.live.replace(Dashboard {
            stores: current.stores.iter().map(with_segments).collect(),
            hosts: self.hosts.and(&file.hosts),
            title: file.title.clone().unwrap_or(TITLE.to_owned()),
            glossary: file.glossary.clone(),
            calendar: file.calendar,
            collect: self
                .collect
                .then(|| file.collect.clone().map(Arc::new))
                .flatten(),
            question: file.question.clone(),
            ..Dashboard::clone(&current)
        });
        tracing::info!("configuration reloaded: {}: {}", file.name, file.summary());
        self.file = file;
        self.stores = stores;
    }

    /// Applies the new expiry of the stores if it differs from the current one. Bitmaps that expire
    /// by the new one are deleted at once.
    fn replace_nightly(&mut self, file: &File, stores: &[NamedStoreConfig]) -> anyhow::Result<()> {
        let expiries = |stores: &[NamedStoreConfig]| -> Vec<_> {
            stores.iter().map(|store| store.expire.clone()).collect()
        };
        if file.expire_at == self.file.expire_at && expiries(stores) == expiries(&self.stores) {
            return Ok(());
        }
        let current = self.live.dashboard();
        let jobs: Vec<Job> = stores
            .iter()
            .zip(&current.stores)
            .filter(|(named, _)| cleanup(named, self.read_only, self.clock) == Cleanup::Nightly)
            .map(|(named, store)| Job {
                name: named.name.clone(),
                tracker: store.tracker.clone(),
                expiry: named.expire.clone(),
            })
            .collect();
        // The old thread must end before the new one starts.
        self.nightly = None;
        if !jobs.is_empty() {
            let nightly = Nightly::start(jobs, file.expire_at, self.clock).context("expire")?;
            nightly.starter()();
            self.nightly = Some(nightly);
        }
        Ok(())
    }
}

/// Whether both lists are the same stores with the same prefixes and permissions.
fn same_stores(before: &[NamedStoreConfig], now: &[NamedStoreConfig]) -> bool {
    let same = |(before, now): (&NamedStoreConfig, &NamedStoreConfig)| {
        before.name == now.name
            && before.store.is_same_text(&now.store)
            && before.read_only == now.read_only
            && before.store.kept_in() == now.store.kept_in()
    };
    before.len() == now.len() && before.iter().zip(now).all(same)
}

/// Receives SIGHUP. While this value exists, the signal does not end the process.
pub struct Hangups {
    runtime: Runtime,
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Hangups {
    pub fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        #[cfg(unix)]
        let signal = {
            use tokio::signal::unix::{SignalKind, signal};
            let _inside = runtime.enter();
            signal(SignalKind::hangup())?
        };
        Ok(Hangups {
            runtime,
            #[cfg(unix)]
            signal,
        })
    }

    /// Starts a thread that reloads the configuration at each SIGHUP once `serving` is ready.
    pub fn reload(
        self,
        mut reload: Reload,
        serving: oneshot::Receiver<()>,
    ) -> anyhow::Result<Reloading> {
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("cohortist-reload".into())
            .spawn(move || {
                self.wait(&mut reload, serving, ended);
                // Ends the nightly thread, if there is one.
                drop(reload);
            })?;
        Ok(Reloading {
            end: Some(end),
            thread: Some(thread),
        })
    }

    #[cfg(unix)]
    fn wait(
        mut self,
        reload: &mut Reload,
        serving: oneshot::Receiver<()>,
        mut ended: oneshot::Receiver<()>,
    ) {
        self.runtime.block_on(async move {
            if !matches!(select(serving, &mut ended).await, Either::Left((Ok(()), _))) {
                return;
            }
            loop {
                match select(Box::pin(self.signal.recv()), &mut ended).await {
                    Either::Left((Some(()), _)) => reload.reload(),
                    _ => return,
                }
            }
        });
    }

    #[cfg(not(unix))]
    fn wait(self, _: &mut Reload, _: oneshot::Receiver<()>, ended: oneshot::Receiver<()>) {
        let _ = self.runtime.block_on(ended);
    }
}

/// The thread that waits for SIGHUP. It ends when this value is dropped.
pub struct Reloading {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reloading {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && !ends_within(thread, RELOAD_TIMEOUT)
        {
            tracing::warn!("the server stops during a reload, or while it deletes expired bitmaps");
        }
    }
}

/// Waits for a thread. Returns whether it ended in time. If not, it ends with the process.
fn ends_within(thread: JoinHandle<()>, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    while !thread.is_finished() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // The thread itself has reported a panic.
    let _ = thread.join();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_that_hangs_does_not_keep_the_process() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let hangs = std::thread::spawn(move || {
            let _ = held.recv();
        });
        assert!(!ends_within(hangs, Duration::from_millis(20)));
        drop(hold);
        let ends = std::thread::spawn(|| ());
        assert!(ends_within(ends, Duration::from_secs(60)));
    }
}
