//! `cohortist serve`.

mod nightly;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::FalseyValueParser;

use crate::cli::config::File;
use crate::cli::output::{Out, Usage, say};
use crate::cli::store::Named;
use crate::clock::Clock;
use crate::render::words;
use crate::resp;
use crate::store::{Remembered, Remembering};
use crate::tracker::Tracker;
use crate::web::{self, Dashboard, KeptPages, Listening, NamedStore, SLOW, TITLE};
use nightly::{Job, Nightly};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist serve                                     http://127.0.0.1:8080, this machine only
  cohortist serve --listen 0.0.0.0:80                 for every machine that can reach this one
  cohortist --store redis://localhost:6379/0 serve    bitmapist's data in Redis
  cohortist --config acme.toml serve --check          is the configuration right?
  cohortist serve --resp 127.0.0.1:6380               bitmapist's clients, unchanged, use this store as their Redis
  COHORTIST_STORE=/data/cohortist.db COHORTIST_LISTEN=[::]:8080 cohortist serve

With [expire] in the configuration, bitmaps that were kept long enough go at start and every night.
It has no password of its own: put a proxy that asks for one in front before others can reach it.
Ctrl-C or SIGTERM lets running requests finish.";

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

    /// Take marks at POST /api/v1/marks from whoever sends this token; without it nobody can
    #[arg(long, value_name = "TOKEN", env = "COHORTIST_WRITE_TOKEN", value_parser = token)]
    write_token: Option<String>,

    /// Also listen for Redis clients there, so that bitmapist marks and asks here instead of in Redis
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

    /// How much memory counts may take that are remembered, in MiB, and an eighth of it pages; 0 to count and write everything each time
    #[arg(long, value_name = "MIB", env = "COHORTIST_REMEMBER_MB", default_value_t = 64,
          value_parser = clap::value_parser!(u64).range(0..=1 << 20))]
    remember_mb: u64,

    /// How long a count is remembered whose periods have all ended, such as 1d or 12h
    #[arg(long, value_name = "TIME", env = "COHORTIST_REMEMBER_FOR", default_value = "1d", value_parser = humantime::parse_duration)]
    remember_for: Duration,

    /// How long remembered counts are used without a look whether others have marked since
    #[arg(long, value_name = "TIME", env = "COHORTIST_CHECK_AFTER", default_value = "1m", value_parser = humantime::parse_duration)]
    check_after: Duration,

    /// Warn of answers that take longer, with their address, in milliseconds; 0 for none
    #[arg(long, value_name = "MS", env = "COHORTIST_SLOW_MS", default_value_t = 1000)]
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
    remembering: Option<Remembering>,
    slow: Duration,
    file: File,
    stores: Vec<Named>,
}

/// Whether this is an address to listen on.
pub(super) fn address(listen: String) -> Result<String, Usage> {
    address_of("--listen", listen, "8080")
}

fn address_of(flag: &str, listen: String, default: &str) -> Result<String, Usage> {
    let port = listen.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(_))) {
        return Ok(listen);
    }
    let port = listen.trim_start_matches(':').parse::<u16>().map_or(default.to_owned(), |port| port.to_string());
    Err(Usage(format!("{flag}: `{listen}` is not an address: write 127.0.0.1:{port}, or 0.0.0.0:{port} for all")))
}

impl Config {
    pub fn new(args: Args, file: File, stores: Vec<Named>) -> Result<Self, Usage> {
        let (read_only, check, write_token) = (args.read_only, args.check, args.write_token);
        let resp = match args.resp.filter(|listen| !listen.is_empty()) {
            None if args.resp_password.is_some() || args.allow_flush => {
                return Err(Usage("--resp-password and --allow-flush go with --resp ADDRESS".to_owned()));
            }
            None => None,
            Some(listen) => Some(resp::Settings {
                listen: address_of("--resp", listen, "6380")?,
                password: args.resp_password.filter(|password| !password.is_empty()),
                allow_flush: args.allow_flush,
                connections: usize::try_from(args.resp_connections).unwrap_or(resp::CONNECTIONS),
            }),
        };
        if let (Some(resp), Some(first)) = (&resp, stores.first()) {
            if first.store.is_redis() {
                let shown = first.store.shown();
                return Err(Usage(format!("--resp: {shown} is a Redis already; clients can use it directly")));
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
        let how = Remembering {
            bytes: args.remember_mb << 20,
            keep: args.remember_for,
            check_after: args.check_after.min(args.remember_for),
        };
        let remembering = Some(how).filter(|how| how.bytes > 0 && !how.keep.is_zero());
        let (listen, slow) = (address(args.listen)?, Duration::from_millis(args.slow_ms));
        Ok(Config { listen, read_only, write_token, resp, check, remembering, slow, file, stores })
    }

    pub fn run(self, clock: Clock) -> anyhow::Result<()> {
        if self.check {
            return self.told();
        }
        if !self.file.name.is_empty() {
            say!("configuration: {}: {}", self.file.name, self.file.summary());
            let (named, shown) = (self.file.stores.iter().map(|s| &s.name), self.stores.iter().map(|s| &s.name));
            if named.len() > 0 && !named.eq(shown) {
                say!("note: --store is given, so only {} is shown", self.stores[0].store.shown());
            }
        }
        // A port that is taken is found before any store is opened or made.
        let listening = Listening::bind(&self.listen)?;
        self.tell_of_nights(clock);
        let (mut stores, mut jobs, several) = (Vec::new(), Vec::new(), self.stores.len() > 1);
        for named in self.stores {
            let goes = what_goes(&named, self.read_only, clock) == Goes::Nightly;
            let tracker = named.store.open().map_err(|error| named.blame(error))?;
            named.store.say_where(if several { &named.name } else { "" }, &tracker)?;
            // That a store is away is no reason not to start; that its users are called otherwise is.
            if named.store.ids().is_some()
                && let Err(error @ crate::Error::Ids(_)) = tracker.ids()
            {
                return Err(named.blame(error.into()));
            }
            let Named { name, store, read_only, expire, .. } = named;
            let tracker = self.remembering.into_iter().fold(tracker, |tracker, how| remembering(tracker, how, clock));
            if goes {
                jobs.push(Job { name: name.clone(), tracker: tracker.clone(), expiry: expire });
            }
            log_strays(tracker.clone(), store.prefix().to_owned());
            stores.push(NamedStore { name, tracker, read_only: read_only || self.read_only });
        }
        let nightly = if jobs.is_empty() { None } else { Some(Nightly::start(jobs, self.file.expire_at, clock)?) };
        let begin = nightly.as_ref().map(Nightly::beginning);
        let _listener = match (self.resp, stores.first()) {
            (Some(settings), Some(first)) => Some(listen_for_clients(settings, &first.tracker)?),
            _ => None,
        };
        let ready = move || begin.into_iter().for_each(|begin| begin());
        let kept = self.remembering.map(|how| KeptPages::new(how.bytes / PAGES)).unwrap_or_default();
        let dashboard = dashboard(stores, &self.file, kept, clock);
        let dashboard = Dashboard { write_token: self.write_token, slow: self.slow, ..dashboard };
        serve(listening, dashboard, ready)
    }

    /// Says for each store what will be deleted of it by itself, or why nothing will.
    fn tell_of_nights(&self, clock: Clock) {
        for named in &self.stores {
            let (name, words, at) = (named.called(), &named.expire.words, self.file.expire_at.format("%H:%M"));
            match what_goes(named, self.read_only, clock) {
                Goes::Nothing => {}
                Goes::ReadOnly => say!("expire: nothing of {name} goes, as it is read-only"),
                Goes::Frozen => say!("expire: nothing of {name} goes, as --now says what time it is"),
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
        let name = if self.file.name.is_empty() { "no configuration file" } else { &self.file.name };
        out.line(format_args!("{name}: {}", self.file.summary()))?;
        for store in &self.stores {
            let read_only = if store.read_only || self.read_only { ", read-only" } else { "" };
            let kept = match what_goes(store, self.read_only, Clock::System) {
                Goes::Nightly => {
                    let at = self.file.expire_at.format("%H:%M");
                    format!(", kept for {} and deleted at start and at {at} UTC", store.expire.words)
                }
                _ => String::new(),
            };
            out.line(format_args!("{}: {}{read_only}{kept}", store.name, store.store.shown()))?;
        }
        out.line("all is well; no store was opened")?;
        Ok(out.finish()?)
    }
}

/// Logs which keys under the prefix are no event's. Listing all keys may take long, and nothing waits for it.
fn log_strays(tracker: Tracker, prefix: String) {
    std::thread::spawn(move || {
        // A store that is away says so elsewhere.
        if tracker.catalogue().is_ok() {
            let strays = tracker.store().strays();
            if strays.count > 0 {
                tracing::warn!("{}", words::strays(&prefix, strays.count, &strays.example));
            }
        }
    });
}

/// Pages may take one part in so many of the memory that counts may.
pub(super) const PAGES: u64 = 8;

/// A tracker whose counts are remembered.
pub(super) fn remembering(tracker: Tracker, how: Remembering, clock: Clock) -> Tracker {
    let store = Remembered::new(Arc::clone(tracker.store()), how, clock);
    tracker.on(Arc::new(store))
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
        _ if named.expire.keeping.is_for_good() => Goes::Nothing,
        _ if named.read_only || read_only => Goes::ReadOnly,
        Clock::Fixed(_) => Goes::Frozen,
        Clock::System => Goes::Nightly,
    }
}

/// Whether only this machine can reach an address.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn listen_for_clients(settings: resp::Settings, tracker: &Tracker) -> anyhow::Result<resp::Listener> {
    let Some(keyspace) = tracker.store().keyspace() else {
        anyhow::bail!("--resp needs an embedded store");
    };
    let (listen, login) = (settings.listen.clone(), if settings.password.is_some() { ":PASSWORD@" } else { "" });
    let listener = resp::Listener::start(settings, keyspace.clone())
        .with_context(|| format!("cannot listen for Redis clients on {listen}; choose with --resp"))?;
    let url = format!("redis://{}", listener.address());
    say!("Redis clients are served at {url}");
    keyspace.tell_others(&format!("redis://{login}{}", listener.address()));
    Ok(listener)
}

/// A dashboard of stores, as a configuration file would have it.
pub(super) fn dashboard(stores: Vec<NamedStore>, file: &File, kept: KeptPages, clock: Clock) -> Dashboard {
    Dashboard {
        title: file.title.clone().unwrap_or(TITLE.to_owned()),
        stores,
        glossary: file.glossary.clone(),
        question: file.question.clone(),
        clock,
        write_token: None,
        kept,
        slow: SLOW,
    }
}

/// Serves a dashboard until told to stop; `ready` is called once it does.
pub(super) fn serve(
    listening: Listening,
    dashboard: Dashboard,
    ready: impl FnOnce() + Send + 'static,
) -> anyhow::Result<()> {
    let read_only = dashboard.stores.iter().all(|store| store.read_only);
    let served = web::run_on(listening, dashboard, move |addresses| {
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
        let also = if read_only { "" } else { ", and save segments (--read-only turns that off)" };
        say!("note: anyone who can reach this address can see everything{also}; cohortist asks for no password");
    }
}
