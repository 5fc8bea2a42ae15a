//! SIGHUP: the configuration is read again while the server goes on, whatever is wrong with it.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::future::{Either, select};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::nightly::{Job, Nightly};
use super::{Goes, what_goes};
use crate::cli::config::File;
use crate::cli::output::{Usage, message};
use crate::cli::store::{Named, Stores};
use crate::clock::Clock;
use crate::server::{Dashboard, Hosts, Live, NamedStore, TITLE};
use crate::store::Options;
use crate::tracker::Ids;

/// How long a server that stops waits for a reload, and for the deletion of old bitmaps. Both may be
/// interrupted at any point.
const LAST_RELOAD: Duration = Duration::from_secs(5);

/// The words of the command line from which the configuration is read: the first time, and each
/// time again.
#[derive(Clone)]
pub struct Source {
    pub config: Option<PathBuf>,
    pub store: Option<String>,
    pub options: Options,
    pub ids: Option<Ids>,
}

impl Source {
    fn read(&self, clock: Clock) -> Result<(File, Vec<Named>), Usage> {
        let file = File::find(self.config.as_deref(), true, clock)?;
        let stores = Stores::new(self.store.clone(), None, &file, &self.options, self.ids)?;
        Ok((file, stores.all))
    }
}

/// What a reload starts from.
pub struct Reload {
    pub source: Source,
    pub clock: Clock,
    pub live: Live,
    /// The names that `--host` gave.
    pub hosts: Hosts,
    pub read_only: bool,
    /// The file and the stores as they are in force.
    pub file: File,
    pub stores: Vec<Named>,
    pub nightly: Option<Nightly>,
}

impl Reload {
    /// Puts the file in force as it is now, or says why not and leaves everything as it was.
    fn again(&mut self) {
        let read = self.source.read(self.clock);
        let (file, stores) = match read {
            Ok((file, _)) if file.name.is_empty() && self.file.name.is_empty() => {
                tracing::info!("SIGHUP: there is no configuration file, so nothing is reloaded");
                return;
            }
            Ok((file, _)) if file.name.is_empty() => {
                tracing::error!(
                    "configuration not reloaded: {} is gone; the old one stays in force",
                    self.file.name
                );
                return;
            }
            Ok(read) => read,
            Err(Usage(faults)) => {
                for fault in faults.lines() {
                    tracing::error!("configuration not reloaded: {fault}");
                }
                tracing::error!("the old configuration stays in force");
                return;
            }
        };
        if !same_stores(&self.stores, &stores) {
            tracing::error!(
                "configuration not reloaded: {} names other stores than those being served, or changes their prefix or read_only. \
                 Restart the server to serve them; the old configuration stays in force",
                file.name
            );
            return;
        }
        if let Err(error) = self.expire_by(&file, &stores) {
            let error = message(&error);
            tracing::error!("configuration not reloaded: {error}; the old one stays in force");
            return;
        }
        let served = self.live.dashboard();
        let segments = |store: &NamedStore| NamedStore {
            tracker: store.tracker.clone().with_segments(file.segments.clone()),
            ..store.clone()
        };
        self.live.replace(Dashboard {
            stores: served.stores.iter().map(segments).collect(),
            hosts: self.hosts.and(&file.hosts),
            title: file.title.clone().unwrap_or(TITLE.to_owned()),
            glossary: file.glossary.clone(),
            question: file.question.clone(),
            ..Dashboard::clone(&served)
        });
        tracing::info!("configuration reloaded: {}: {}", file.name, file.summary());
        (self.file, self.stores) = (file, stores);
    }

    /// Puts another expiry in the place of the one in force, where they differ. What is over by the
    /// new one is deleted at once.
    fn expire_by(&mut self, file: &File, stores: &[Named]) -> anyhow::Result<()> {
        let kept = |stores: &[Named]| -> Vec<_> {
            stores.iter().map(|store| store.expire.clone()).collect()
        };
        if file.expire_at == self.file.expire_at && kept(stores) == kept(&self.stores) {
            return Ok(());
        }
        let served = self.live.dashboard();
        let of_store = |(named, store): (&Named, &NamedStore)| {
            let goes = what_goes(named, self.read_only, self.clock) == Goes::Nightly;
            let job = || Job {
                name: named.name.clone(),
                tracker: store.tracker.clone(),
                expiry: named.expire.clone(),
            };
            goes.then(job)
        };
        let jobs: Vec<Job> = stores
            .iter()
            .zip(&served.stores)
            .filter_map(of_store)
            .collect();
        // The old one ends before the new one begins: never two of them.
        self.nightly = None;
        if !jobs.is_empty() {
            let nightly = Nightly::start(jobs, file.expire_at, self.clock).context("expire")?;
            nightly.beginning()();
            self.nightly = Some(nightly);
        }
        Ok(())
    }
}

/// Whether both are the same stores, as far as their addresses, prefixes and permissions tell.
fn same_stores(before: &[Named], now: &[Named]) -> bool {
    let same = |(before, now): (&Named, &Named)| {
        before.name == now.name
            && before.store.is_same_text(&now.store)
            && before.read_only == now.read_only
    };
    before.len() == now.len() && before.iter().zip(now).all(same)
}

/// What waits for SIGHUP. From when it is made that signal ends the process no longer.
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

    /// Reloads at each, once `serving` says so, until the answer is dropped.
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
                // The nightly thread, if any, ends with this one.
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
                    Either::Left((Some(()), _)) => reload.again(),
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

/// A thread that waits for SIGHUP. It ends when this is dropped.
pub struct Reloading {
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reloading {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && !ends_within(thread, LAST_RELOAD)
        {
            tracing::warn!("the server stops in the middle of a reload or of deleting old bitmaps");
        }
    }
}

/// Whether a thread ends in time. It is not waited for any longer: the process ends it.
fn ends_within(thread: JoinHandle<()>, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    while !thread.is_finished() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    // A panic there was reported by the thread itself.
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
