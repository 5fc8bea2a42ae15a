//! `cohortist serve`.

mod descriptors;
mod nightly;
mod reload;

use std::net::SocketAddr;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use tokio::sync::oneshot;

use crate::cli::config::File;
use crate::cli::output::{Out, Usage, say};
use crate::cli::store::Named;
use crate::clock::Clock;
use crate::render::words;
use crate::resp;
use crate::server::{
    self, Admission, Dashboard, HostName, Hosts, Listening, Live, NamedStore, Network, PageCache,
    Proxies, SLOW, TITLE,
};
use crate::sets::Prefix;
use crate::store::budget::{Budget, Shares};
use crate::store::embedded::EmbeddedStore;
use crate::store::{CacheOptions, private};
use crate::tracker::Tracker;
pub(super) use descriptors::Descriptors;
use nightly::{Job, Nightly};
pub use reload::Source;
use reload::{Hangups, Reload};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist serve                                     http://127.0.0.1:8080, this machine only
  cohortist serve --listen 0.0.0.0:80                 for every machine that can reach this one
  cohortist serve --host stats.example.org            behind a proxy that serves it under that name
  cohortist --store redis://localhost:6379/0 serve    bitmapist's data in Redis
  cohortist --config acme.toml serve --check          is the configuration right?
  cohortist serve --resp 127.0.0.1:6380               bitmapist's clients, unchanged, use this store as their Redis
  COHORTIST_STORE=/data/cohortist.db COHORTIST_LISTEN=[::]:8080 cohortist serve

With [expire] in the configuration, bitmaps that were kept long enough go at start and every night.
It has no password of its own: put a proxy that asks for one in front before others can reach it.
Requests must name localhost, an IP address or a name given with --host; others get 421 (Misdirected Request).
Ctrl-C or SIGTERM lets running requests finish: for up to 10 seconds, after which they get 503 (Service Unavailable).
SIGHUP reloads the configuration file, or logs what is wrong with it; which stores are served takes a restart.";

/// Where the dashboard listens when nothing is said.
pub(super) const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// Serve the dashboard
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Address and port to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", env = "COHORTIST_LISTEN", default_value = DEFAULT_LISTEN)]
    listen: String,

    /// Pages change nothing in the stores: saving people as a segment is off
    #[arg(long, env = "COHORTIST_READ_ONLY", value_parser = FalseyValueParser::new())]
    read_only: bool,

    /// A name the dashboard answers to, repeatable; localhost and IP addresses always work
    #[arg(long = "host", value_name = "NAME", env = "COHORTIST_HOST", value_delimiter = ',', value_parser = str::parse::<HostName>)]
    hosts: Vec<HostName>,

    /// An address or range of proxies whose X-Forwarded-For names the client, repeatable
    #[arg(long = "trusted-proxy", value_name = "ADDRESS", env = "COHORTIST_TRUSTED_PROXY", value_delimiter = ',',
          value_parser = str::parse::<Network>)]
    trusted_proxies: Vec<Network>,

    /// Take marks at POST /api/v1/marks from whoever sends this token; without it nobody can
    #[arg(long, value_name = "TOKEN", env = "COHORTIST_WRITE_TOKEN", value_parser = token)]
    write_token: Option<String>,

    /// Also listen for Redis clients there, so that bitmapist marks and asks here instead of in
    /// Redis
    #[arg(long, value_name = "ADDRESS", env = "COHORTIST_RESP")]
    resp: Option<String>,

    /// What Redis clients have to say first; others than this machine's must
    #[arg(long, value_name = "PASSWORD", env = "COHORTIST_RESP_PASSWORD")]
    resp_password: Option<String>,

    /// How many Redis clients there may be at once
    #[arg(long, value_name = "N", env = "COHORTIST_RESP_CONNECTIONS", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    resp_connections: u32,

    /// Let Redis clients delete everything with FLUSHDB
    #[arg(long, env = "COHORTIST_ALLOW_FLUSH", value_parser = FalseyValueParser::new())]
    allow_flush: bool,

    /// How much of --memory-mb remembered counts may take, in MiB, and an eighth of it pages; 0 to
    /// count and write everything each time [default: a sixteenth of it]
    #[arg(long, value_name = "MIB", env = "COHORTIST_REMEMBER_MB", value_parser = clap::value_parser!(u64).range(0..=1 << 20))]
    remember_mb: Option<u64>,

    /// How long a count is remembered whose periods have all ended, such as 1d or 12h
    #[arg(long, value_name = "TIME", env = "COHORTIST_REMEMBER_FOR", default_value = "1d", value_parser = humantime::parse_duration)]
    remember_for: Duration,

    /// How long remembered counts are used without a look whether others have marked since
    #[arg(long, value_name = "TIME", env = "COHORTIST_CHECK_AFTER", default_value = "1m", value_parser = humantime::parse_duration)]
    check_after: Duration,

    /// Warn of answers that take longer, with their address, in milliseconds; 0 for none
    #[arg(
        long,
        value_name = "MS",
        env = "COHORTIST_SLOW_MS",
        default_value_t = 1000
    )]
    slow_ms: u64,

    /// Only check flags and configuration file, then exit; no store is opened
    #[arg(long, env = "COHORTIST_CHECK", value_parser = FalseyValueParser::new())]
    check: bool,
}

/// What to serve, and where.
pub struct Config {
    listen: String,
    read_only: bool,
    write_token: Option<String>,
    resp: Option<resp::Settings>,
    check: bool,
    remembering: Option<CacheOptions>,
    slow: Duration,
    hosts: Hosts,
    proxies: Proxies,
    memory: Memory,
    file: File,
    stores: Vec<Named>,
    source: Source,
}

/// Whether this is an address to listen on.
pub(super) fn address(listen: String) -> Result<String, Usage> {
    address_of("--listen", listen, "8080")
}

fn address_of(flag: &str, listen: String, default: &str) -> Result<String, Usage> {
    let port = listen
        .rsplit_once(':')
        .filter(|(host, _)| !host.is_empty())
        .map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(_))) {
        return Ok(listen);
    }
    let port = listen
        .trim_start_matches(':')
        .parse::<u16>()
        .map_or(default.to_owned(), |port| port.to_string());
    Err(Usage(format!(
        "{flag}: `{listen}` is not an address: write 127.0.0.1:{port}, or 0.0.0.0:{port} for all"
    )))
}

impl Config {
    /// `memory` is what the process may take, in bytes.
    pub fn new(
        args: Args,
        file: File,
        stores: Vec<Named>,
        source: Source,
        memory: u64,
    ) -> Result<Self, Usage> {
        let most = Shares::most_counts(memory) >> 20;
        if let Some(mb) = args.remember_mb.filter(|mb| *mb > most) {
            return Err(Usage(format!(
                "--remember-mb {mb} is more than a quarter of the memory: write at most {most}, or raise --memory-mb"
            )));
        }
        let memory = Memory::new(Shares::of(memory, args.remember_mb.map(|mb| mb << 20)));
        let embedded = stores
            .iter()
            .filter(|named| named.store.path().is_some())
            .count() as u64;
        let mut stores = stores;
        for named in &mut stores {
            named.store = named.store.clone().with_memory(&memory.shares, embedded);
        }
        let (read_only, check, write_token) = (args.read_only, args.check, args.write_token);
        let resp = match args.resp.filter(|listen| !listen.is_empty()) {
            None if args.resp_password.is_some() || args.allow_flush => {
                return Err(Usage(
                    "--resp-password and --allow-flush go with --resp ADDRESS".to_owned(),
                ));
            }
            None => None,
            Some(listen) => Some(resp::Settings {
                listen: address_of("--resp", listen, "6380")?,
                password: args.resp_password.filter(|password| !password.is_empty()),
                allow_flush: args.allow_flush,
                connections: usize::try_from(args.resp_connections).unwrap_or(resp::CONNECTIONS),
                memory: memory.clients.clone(),
            }),
        };
        if let (Some(resp), Some(first)) = (&resp, stores.first()) {
            if first.store.is_redis() {
                let shown = first.store.shown();
                return Err(Usage(format!(
                    "--resp: {shown} is a Redis already; clients can use it directly"
                )));
            }
            if first.read_only || read_only {
                return Err(Usage(format!(
                    "--resp: the store {} is read-only, and Redis clients write",
                    first.called()
                )));
            }
            if resp.password.is_none() && !is_loopback(&resp.listen) {
                let listen = &resp.listen;
                return Err(Usage(format!(
                    "--resp: others can reach {listen}, so they need a password: --resp-password, or COHORTIST_RESP_PASSWORD"
                )));
            }
        }
        let how = CacheOptions {
            bytes: memory.shares.counts / (stores.len() as u64).max(1),
            keep: args.remember_for,
            check_after: args.check_after.min(args.remember_for),
        };
        let remembering = Some(how).filter(|how| how.bytes > 0 && !how.keep.is_zero());
        let (hosts, proxies) = (
            args.hosts.into_iter().collect(),
            args.trusted_proxies.into_iter().collect(),
        );
        let (listen, slow) = (address(args.listen)?, Duration::from_millis(args.slow_ms));
        Ok(Config {
            listen,
            read_only,
            write_token,
            resp,
            check,
            remembering,
            slow,
            hosts,
            proxies,
            memory,
            file,
            stores,
            source,
        })
    }

    pub fn run(self, clock: Clock) -> anyhow::Result<()> {
        if self.check {
            return self.told();
        }
        let hangups = Hangups::listen()?;
        if !self.file.name.is_empty() {
            say!("configuration: {}: {}", self.file.name, self.file.summary());
            let (named, shown) = (
                self.file.stores.iter().map(|s| &s.name),
                self.stores.iter().map(|s| &s.name),
            );
            if named.len() > 0 && !named.eq(shown) {
                say!(
                    "note: --store is given, so only {} is shown",
                    self.stores[0].store.shown()
                );
            }
        }
        // A port that is taken is found before any store is opened or made.
        let listening = Listening::bind(&self.listen)?;
        let for_clients = self
            .resp
            .as_ref()
            .map(|resp| resp::Listening::bind(&resp.listen))
            .transpose()?;
        let descriptors = Descriptors::raise();
        let clients = self.resp.as_ref().map_or(0, |resp| resp.connections);
        let (clients, connections) = descriptors.divide(clients);
        self.tell_of_nights(clock);
        let mut stores = Vec::new();
        let mut embedded_stores = Vec::new();
        let mut jobs = Vec::new();
        let several = self.stores.len() > 1;
        for named in self.stores.iter().cloned() {
            let goes = what_goes(&named, self.read_only, clock) == Goes::Nightly;
            if let Some((path, mode)) = named
                .store
                .path()
                .and_then(|path| Some((path, private::open_to_all(path)?)))
            {
                let path = path.display();
                say!(
                    "note: every user of this machine can reach the files of {path} (mode {mode:o}): chmod -R go= {path}"
                );
            }
            let (tracker, embedded) = named
                .store
                .open_to_serve()
                .map_err(|error| named.blame(error))?;
            named
                .store
                .say_where(if several { &named.name } else { "" }, &tracker)?;
            // That a store is away is no reason not to start; that its users are called otherwise
            // is.
            if named.store.ids().is_some()
                && let Err(error @ crate::Error::Ids(_)) = tracker.ids()
            {
                return Err(named.blame(error.into()));
            }
            let Named {
                name,
                store,
                read_only,
                expire,
                ..
            } = named;
            let tracker = self
                .remembering
                .into_iter()
                .fold(tracker, |tracker, options| {
                    tracker.with_cache(options, clock)
                });
            if goes {
                jobs.push(Job {
                    name: name.clone(),
                    tracker: tracker.clone(),
                    expiry: expire,
                });
            }
            log_keys(tracker.clone(), Prefix::new(store.prefix()));
            embedded_stores.push(embedded);
            stores.push(NamedStore {
                name,
                tracker,
                read_only: read_only || self.read_only,
            });
        }
        let nightly = if jobs.is_empty() {
            None
        } else {
            Some(Nightly::start(jobs, self.file.expire_at, clock)?)
        };
        let begin = nightly.as_ref().map(Nightly::beginning);
        let first = embedded_stores.first().and_then(Option::as_ref);
        let _listener = match (self.resp.zip(for_clients), first) {
            (Some((settings, listening)), Some(first)) => {
                let wanted = settings.connections;
                if clients < wanted {
                    say!(
                        "note: {clients} Redis clients at most and not {wanted}, as {descriptors}; raise that with ulimit -n"
                    );
                }
                let settings = resp::Settings {
                    connections: clients,
                    ..settings
                };
                Some(listen_for_clients(listening, settings, first)?)
            }
            _ => None,
        };
        let (serving, when_serving) = oneshot::channel();
        let ready = move || {
            begin.into_iter().for_each(|begin| begin());
            let _ = serving.send(());
        };
        let kept = self
            .remembering
            .map(|_| PageCache::new(self.memory.shares.pages))
            .unwrap_or_default();
        let room = Room {
            kept,
            memory: self.memory,
            connections,
        };
        let dashboard = Dashboard {
            write_token: self.write_token,
            slow: self.slow,
            hosts: self.hosts.and(&self.file.hosts),
            proxies: self.proxies,
            ..dashboard(stores, &self.file, room, clock)
        };
        let live = Live::from(dashboard);
        let reload = Reload {
            source: self.source,
            clock,
            live: live.clone(),
            hosts: self.hosts,
            read_only: self.read_only,
            file: self.file,
            stores: self.stores,
            nightly,
        };
        let _reloading = hangups.reload(reload, when_serving)?;
        serve(listening, live, ready)
    }

    /// Says for each store what will be deleted of it by itself, or why nothing will.
    fn tell_of_nights(&self, clock: Clock) {
        for named in &self.stores {
            let (name, words, at) = (
                named.called(),
                &named.expire.words,
                self.file.expire_at.format("%H:%M"),
            );
            match what_goes(named, self.read_only, clock) {
                Goes::Nothing => {}
                Goes::ReadOnly => say!("expire: nothing of {name} goes, as it is read-only"),
                Goes::Frozen => {
                    say!("expire: nothing of {name} goes, as --now says what time it is")
                }
                Goes::Nightly => {
                    say!(
                        "expire: bitmaps of {name} are kept for {words}; what is over goes now and every night at {at} UTC"
                    );
                }
            }
        }
    }

    /// What would be served, for a look before the real start.
    fn told(self) -> anyhow::Result<()> {
        let mut out = Out::new();
        let name = if self.file.name.is_empty() {
            "no configuration file"
        } else {
            &self.file.name
        };
        out.line(format_args!("{name}: {}", self.file.summary()))?;
        for store in &self.stores {
            let read_only = if store.read_only || self.read_only {
                ", read-only"
            } else {
                ""
            };
            let kept = match what_goes(store, self.read_only, Clock::System) {
                Goes::Nightly => {
                    let at = self.file.expire_at.format("%H:%M");
                    format!(
                        ", kept for {} and deleted at start and at {at} UTC",
                        store.expire.words
                    )
                }
                _ => String::new(),
            };
            out.line(format_args!(
                "{}: {}{read_only}{kept}",
                store.name,
                store.store.shown()
            ))?;
        }
        out.line("all is well; no store was opened")?;
        Ok(out.finish()?)
    }
}

/// The memory of a server, divided.
pub(super) struct Memory {
    pub shares: Shares,
    /// What clients may send, of which requests and bodies take their part while they are there.
    pub clients: Budget,
}

impl Memory {
    pub fn new(shares: Shares) -> Self {
        Memory {
            shares,
            clients: Budget::new(shares.clients),
        }
    }
}

/// How much room a server has.
pub(super) struct Room {
    pub kept: PageCache,
    pub memory: Memory,
    /// Connections over HTTP.
    pub connections: usize,
}

/// Logs which keys under the prefix are not bitmaps of events, and under which prefix the events
/// are when this one is wrong. Looking at all keys may take long, and nothing waits for it.
fn log_keys(tracker: Tracker, prefix: Prefix) {
    std::thread::spawn(move || {
        // A store that is away says so elsewhere.
        if tracker.check_types().is_err() {
            return;
        }
        if let Ok(others) = tracker.other_prefixes(&prefix)
            && let Some(told) =
                words::other_prefixes(prefix.as_str(), &others.found, others.complete)
        {
            tracing::warn!("{told}");
        }
        let strays = tracker.unparsed_keys();
        if strays.count > 0 {
            let told = words::unparsed_keys(prefix.as_str(), strays.count, &strays.example);
            tracing::warn!("{told}");
        }
    });
}

/// What is deleted of a store by itself.
#[derive(Debug, PartialEq, Eq)]
enum Goes {
    /// It is kept for good.
    Nothing,
    /// Nobody may write to it.
    ReadOnly,
    /// What is long ago by a moment somebody made up need not be.
    Frozen,
    Nightly,
}

fn what_goes(named: &Named, read_only: bool, clock: Clock) -> Goes {
    match clock {
        _ if named.expire.policy.is_for_good() => Goes::Nothing,
        _ if named.read_only || read_only => Goes::ReadOnly,
        Clock::Fixed(_) => Goes::Frozen,
        Clock::System => Goes::Nightly,
    }
}

/// Whether only this machine can reach an address.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn listen_for_clients(
    listening: resp::Listening,
    settings: resp::Settings,
    store: &EmbeddedStore,
) -> anyhow::Result<resp::Listener> {
    let keyspace = store.keyspace();
    let login = if settings.password.is_some() {
        ":PASSWORD@"
    } else {
        ""
    };
    let listener = resp::Listener::start_on(listening, settings, keyspace.clone())?;
    let url = format!("redis://{}", listener.address());
    say!("Redis clients are served at {url}");
    keyspace.publish_url(&format!("redis://{login}{}", listener.address()));
    Ok(listener)
}

/// A dashboard of stores, as a configuration file would have it.
pub(super) fn dashboard(
    stores: Vec<NamedStore>,
    file: &File,
    room: Room,
    clock: Clock,
) -> Dashboard {
    let Room {
        kept,
        memory,
        connections,
    } = room;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Dashboard {
        title: file.title.clone().unwrap_or(TITLE.to_owned()),
        stores,
        glossary: file.glossary.clone(),
        question: file.question.clone(),
        clock,
        write_token: None,
        page_cache: kept,
        slow: SLOW,
        hosts: file.hosts.clone(),
        proxies: Proxies::default(),
        admission: Admission::new(memory.shares.at_once(cores)),
        memory: memory.clients,
        connections,
    }
}

/// Serves a dashboard until told to stop; `ready` is called once it does.
pub(super) fn serve(
    listening: Listening,
    dashboard: impl Into<Live>,
    ready: impl FnOnce() + Send + 'static,
) -> anyhow::Result<()> {
    let live = dashboard.into();
    let read_only = live.dashboard().stores.iter().all(|store| store.read_only);
    let served = server::run_on(listening, live, move |addresses| {
        announce(addresses, read_only);
        ready();
    });
    Ok(served?)
}

/// A token somebody might guess is none.
fn token(text: &str) -> Result<String, String> {
    let fits = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned())
        .ok_or_else(|| "write 16 or more ASCII letters, digits and signs, no blanks".to_owned())
}

fn announce(addresses: &[SocketAddr], read_only: bool) {
    for address in addresses {
        say!("cohortist is listening on http://{address}");
    }
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        let also = if read_only {
            ""
        } else {
            ", and save segments (--read-only turns that off)"
        };
        say!(
            "note: anyone who can reach this address can see everything{also}; cohortist asks for no password"
        );
    }
}
