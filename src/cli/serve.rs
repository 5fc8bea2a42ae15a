//! `cohortist serve`.

mod descriptors;
mod nightly;
mod reload;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use tokio::sync::oneshot;

use crate::cli::config::File;
use crate::cli::output::{Out, Usage, note, status};
use crate::cli::store::NamedStoreConfig;
use crate::clock::Clock;
use crate::render::words;
use crate::resp;
use crate::server::collect::RecentNames;
use crate::server::{
    self, Admission, Dashboard, HostName, Hosts, Listening, Live, NamedStore, Network, PageCache,
    Proxies, SLOW, TITLE,
};
use crate::sets::Prefix;
use crate::store::budget::{Budget, Shares};
use crate::store::embedded::EmbeddedStore;
use crate::store::{CacheOptions, private};
use crate::tracker::{Ids, Tracker};
pub(super) use descriptors::Descriptors;
use nightly::{Cleanup, cleanup};
use nightly::{Job, Nightly};
pub use reload::Hangups;
use reload::Reload;
pub use reload::Source;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist serve                                    on http://127.0.0.1:8080
  cohortist serve --listen 0.0.0.0:80                for other machines
  cohortist serve --host stats.example.org           behind a proxy
  cohortist --store redis://localhost:6379/0 serve   bitmapist's data in Redis
  cohortist serve --resp 127.0.0.1:6380              also for bitmapist
  cohortist --config acme.toml serve --check         check a configuration

The server has no password of its own. Before others can reach it, put a proxy in front that asks \
for one. Requests must name localhost, an IP address or a --host; others get 421 (Misdirected \
Request).

With [expire] in the configuration, expired bitmaps are deleted at the start and every night.

Ctrl-C or SIGTERM gives running requests up to 10 seconds to finish; after that they get 503 \
(Service Unavailable). SIGHUP reloads the configuration file, or logs what is wrong with it. To \
serve other stores, restart.";

/// The default address of the dashboard.
pub(super) const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// The minimum length of a write token, in characters.
const MIN_TOKEN: usize = 16;

/// Serve the dashboard and the API
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Address and port to listen on; port 0 picks a free one
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COHORTIST_LISTEN",
        default_value = DEFAULT_LISTEN
    )]
    listen: String,

    /// Disable everything that changes a store, such as saving segments
    #[arg(long, env = "COHORTIST_READ_ONLY", value_parser = FalseyValueParser::new())]
    read_only: bool,

    /// Host name to answer to, besides localhost and IP addresses; repeatable
    #[arg(
        long = "host",
        value_name = "NAME",
        env = "COHORTIST_HOST",
        value_delimiter = ',',
        value_parser = str::parse::<HostName>
    )]
    hosts: Vec<HostName>,

    /// Proxy whose X-Forwarded-For is trusted, an address or a range; repeatable
    #[arg(
        long = "trusted-proxy",
        value_name = "ADDRESS",
        env = "COHORTIST_TRUSTED_PROXY",
        value_delimiter = ',',
        value_parser = str::parse::<Network>
    )]
    trusted_proxies: Vec<Network>,

    /// Token that POST /api/v1/marks requires; without one, marks are refused
    #[arg(long, value_name = "TOKEN", env = "COHORTIST_WRITE_TOKEN", value_parser = token)]
    write_token: Option<String>,

    /// Record what analytics libraries send, with the keys of [collect]
    #[arg(long, env = "COHORTIST_COLLECT", value_parser = FalseyValueParser::new())]
    collect: bool,

    /// Address to serve Redis clients on, so that bitmapist can use this store
    #[arg(long, value_name = "ADDRESS", env = "COHORTIST_RESP")]
    resp: Option<String>,

    /// Password of Redis clients; required unless --resp is a loopback address
    #[arg(long, value_name = "PASSWORD", env = "COHORTIST_RESP_PASSWORD")]
    resp_password: Option<String>,

    /// Maximum number of Redis clients
    #[arg(
        long,
        value_name = "N",
        env = "COHORTIST_RESP_CONNECTIONS",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    resp_connections: u32,

    /// Allow Redis clients to delete everything with FLUSHDB
    #[arg(long, env = "COHORTIST_ALLOW_FLUSH", value_parser = FalseyValueParser::new())]
    allow_flush: bool,

    /// Memory for cached counts, in MiB, plus an eighth for pages; 0 caches nothing [default: 1/16
    /// of --memory-mb]
    #[arg(
        long,
        value_name = "MIB",
        env = "COHORTIST_REMEMBER_MB",
        value_parser = clap::value_parser!(u64).range(0..=1 << 20)
    )]
    remember_mb: Option<u64>,

    /// How long to cache counts of periods that have ended
    #[arg(
        long,
        value_name = "TIME",
        env = "COHORTIST_REMEMBER_FOR",
        default_value = "1d",
        value_parser = humantime::parse_duration
    )]
    remember_for: Duration,

    /// How long to use cached counts without checking for new marks
    #[arg(
        long,
        value_name = "TIME",
        env = "COHORTIST_CHECK_AFTER",
        default_value = "1m",
        value_parser = humantime::parse_duration
    )]
    check_after: Duration,

    /// Log answers that take longer, in milliseconds; 0 logs none
    #[arg(
        long,
        value_name = "MS",
        env = "COHORTIST_SLOW_MS",
        default_value_t = 1000
    )]
    slow_ms: u64,

    /// Check the options and the configuration file, open no store, and exit
    #[arg(long, env = "COHORTIST_CHECK", value_parser = FalseyValueParser::new())]
    check: bool,
}

/// What to serve, and where.
pub struct Config {
    listen: String,
    read_only: bool,
    write_token: Option<String>,
    collect: bool,
    resp: Option<resp::Settings>,
    check: bool,
    /// How to cache counts, or `None` to cache none.
    cache: Option<CacheOptions>,
    slow: Duration,
    hosts: Hosts,
    proxies: Proxies,
    memory: Memory,
    file: File,
    stores: Vec<NamedStoreConfig>,
    source: Source,
}

/// Checks an address to listen on.
pub(super) fn address(listen: String) -> Result<String, Usage> {
    checked_address("--listen", listen, "8080")
}

fn checked_address(flag: &str, listen: String, default_port: &str) -> Result<String, Usage> {
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
        .map_or(default_port.to_owned(), |port| port.to_string());
    Err(Usage(format!(
        "{flag}: `{listen}` is not an address: write 127.0.0.1:{port}, or 0.0.0.0:{port} for all addresses of this machine"
    )))
}

impl Config {
    /// `memory` is the memory limit of the process, in bytes.
    pub fn new(
        args: Args,
        file: File,
        stores: Vec<NamedStoreConfig>,
        source: Source,
        memory: u64,
    ) -> Result<Self, Usage> {
        let max_mb = Shares::most_counts(memory) >> 20;
        if let Some(mb) = args.remember_mb.filter(|mb| *mb > max_mb) {
            return Err(Usage(format!(
                "--remember-mb {mb} is more than a quarter of the memory: use at most {max_mb}, or raise --memory-mb"
            )));
        }
        let memory = Memory::new(Shares::of(memory, args.remember_mb.map(|mb| mb << 20)));
        let mut stores = stores;
        let embedded = stores
            .iter()
            .filter(|named| named.store.path().is_some())
            .count() as u64;
        for named in &mut stores {
            named.store = named.store.clone().with_memory(&memory.shares, embedded);
        }
        if args.collect {
            check_collect(&file, &stores, args.read_only)?;
        }
        let resp = resp_settings(&args, &memory)?;
        if let Some(resp) = &resp {
            check_resp(resp, &stores[0], args.read_only)?;
        }
        let cache = CacheOptions {
            bytes: memory.shares.counts / stores.len() as u64,
            keep: args.remember_for,
            check_after: args.check_after.min(args.remember_for),
        };
        Ok(Config {
            listen: address(args.listen)?,
            read_only: args.read_only,
            write_token: args.write_token,
            collect: args.collect,
            resp,
            check: args.check,
            cache: Some(cache).filter(|cache| cache.bytes > 0 && !cache.keep.is_zero()),
            slow: Duration::from_millis(args.slow_ms),
            hosts: args.hosts.into_iter().collect(),
            proxies: args.trusted_proxies.into_iter().collect(),
            memory,
            file,
            stores,
            source,
        })
    }

    pub fn run(self, clock: Clock) -> anyhow::Result<()> {
        if self.check {
            return self.print_check();
        }
        let hangups = Hangups::listen()?;
        self.print_configuration();
        // Before any store is opened or created, so that a port in use changes nothing.
        let listening = Listening::bind(&self.listen)?;
        let resp_listening = self
            .resp
            .as_ref()
            .map(|resp| resp::Listening::bind(&resp.listen))
            .transpose()?;
        let descriptors = Descriptors::raise();
        let redis_clients = self.resp.as_ref().map_or(0, |resp| resp.connections);
        let connections = descriptors.divide(redis_clients);
        self.print_expiry(clock);
        let (stores, first, jobs) = self.open_stores(clock)?;
        let nightly = if jobs.is_empty() {
            None
        } else {
            Some(Nightly::start(jobs, self.file.expire_at, clock)?)
        };
        // Redis clients are served as long as this value exists.
        let _listener = match (self.resp.zip(resp_listening), first) {
            (Some((settings, listening)), Some(first)) => {
                if connections.redis < settings.connections {
                    note!(
                        "at most {} Redis clients instead of {}: {descriptors}. Raise the limit with ulimit -n",
                        connections.redis,
                        settings.connections
                    );
                }
                let settings = resp::Settings {
                    connections: connections.redis,
                    ..settings
                };
                Some(serve_redis_clients(listening, settings, &first)?)
            }
            _ => None,
        };
        let (serving, when_serving) = oneshot::channel();
        let starter = nightly.as_ref().map(Nightly::starter);
        let ready = move || {
            if let Some(start) = starter {
                start();
            }
            let _ = serving.send(());
        };
        let limits = Limits {
            page_cache: match self.cache {
                Some(_) => PageCache::new(self.memory.shares.pages),
                None => PageCache::default(),
            },
            memory: self.memory,
            connections: connections.http,
        };
        let live = Live::from(Dashboard {
            write_token: self.write_token,
            collect: self
                .collect
                .then(|| self.file.collect.clone().map(Arc::new))
                .flatten(),
            slow: self.slow,
            hosts: self.hosts.and(&self.file.hosts),
            proxies: self.proxies,
            ..dashboard(stores, &self.file, limits, clock)
        });
        let reload = Reload {
            source: self.source,
            clock,
            live: live.clone(),
            hosts: self.hosts,
            read_only: self.read_only,
            collect: self.collect,
            file: self.file,
            stores: self.stores,
            nightly,
        };
        let _reloading = hangups.reload(reload, when_serving)?;
        serve(listening, live, ready)
    }

    /// Opens the stores. Returns them, the first one if it is an embedded store, and the jobs that
    /// delete their expired bitmaps.
    fn open_stores(
        &self,
        clock: Clock,
    ) -> anyhow::Result<(Vec<NamedStore>, Option<EmbeddedStore>, Vec<Job>)> {
        let mut stores = Vec::new();
        let mut first = None;
        let mut jobs = Vec::new();
        for named in &self.stores {
            note_if_public(named);
            let (tracker, embedded) = named
                .store
                .open_with_embedded()
                .map_err(|error| named.with_name(error))?;
            let name = (self.stores.len() > 1).then_some(named.name.as_str());
            named.store.print_location(name, &tracker)?;
            // A store that is unreachable does not keep the server from starting. The wrong kind of
            // user ids does.
            if named.store.ids().is_some()
                && let Err(error @ crate::Error::Ids(_)) = tracker.ids()
            {
                return Err(named.with_name(error.into()));
            }
            if named.store.kept_in().is_some()
                && let Err(error @ crate::Error::Zone(_)) = tracker.kept_in()
            {
                return Err(named.with_name(error.into()));
            }
            let read_only = named.read_only || self.read_only;
            if self.collect && !read_only {
                check_string_ids(named, &tracker)?;
            }
            let tracker = match self.cache {
                Some(options) => tracker.with_cache(options, clock),
                None => tracker,
            };
            if cleanup(named, self.read_only, clock) == Cleanup::Nightly {
                jobs.push(Job {
                    name: named.name.clone(),
                    tracker: tracker.clone(),
                    expiry: named.expire.clone(),
                });
            }
            log_keys(tracker.clone(), Prefix::new(named.store.prefix()));
            if stores.is_empty() {
                first = embedded;
            }
            stores.push(NamedStore {
                name: named.name.clone(),
                tracker,
                read_only,
            });
        }
        Ok((stores, first, jobs))
    }

    fn print_configuration(&self) {
        if self.file.name.is_empty() {
            return;
        }
        status!("configuration: {}: {}", self.file.name, self.file.summary());
        let configured = self.file.stores.iter().map(|store| &store.name);
        let served = self.stores.iter().map(|store| &store.name);
        if configured.len() > 0 && !configured.eq(served) {
            note!(
                "--store is given, so only {} is served",
                self.stores[0].store.display()
            );
        }
    }

    /// Prints for each store when its bitmaps will be deleted, or why they will not.
    fn print_expiry(&self, clock: Clock) {
        let at = self.file.expire_at.format("%H:%M");
        for named in &self.stores {
            let name = named.display();
            let description = &named.expire.description;
            match cleanup(named, self.read_only, clock) {
                Cleanup::NotConfigured => {}
                Cleanup::ReadOnly => {
                    status!("expire: nothing is deleted from {name}, because it is read-only");
                }
                Cleanup::FixedClock => {
                    status!("expire: nothing is deleted from {name}, because of --now");
                }
                Cleanup::Nightly => {
                    status!(
                        "expire: bitmaps in {name} expire after {description}; cleanup runs now and every night at {at} UTC"
                    );
                }
            }
        }
    }

    /// Prints what would be served.
    fn print_check(self) -> anyhow::Result<()> {
        let mut out = Out::new();
        let name = if self.file.name.is_empty() {
            "no configuration file"
        } else {
            &self.file.name
        };
        out.line(format_args!("{name}: {}", self.file.summary()))?;
        let at = self.file.expire_at.format("%H:%M");
        for named in &self.stores {
            let read_only = if named.read_only || self.read_only {
                ", read-only"
            } else {
                ""
            };
            let expiry = match cleanup(named, self.read_only, Clock::System) {
                Cleanup::Nightly => {
                    let description = &named.expire.description;
                    format!(", expires after {description}, at the start and at {at} UTC")
                }
                _ => String::new(),
            };
            let store = named.store.display();
            out.line(format_args!("{}: {store}{read_only}{expiry}", named.name))?;
        }
        out.line("The configuration is valid. No store was opened.")?;
        Ok(out.finish()?)
    }
}

/// Checks that libraries can send events: there is a key, and a store that may be written.
fn check_collect(file: &File, stores: &[NamedStoreConfig], read_only: bool) -> Result<(), Usage> {
    if file.collect.is_none() {
        return Err(Usage(
            "--collect needs write keys: add [collect] with keys = [\"…\"] to the configuration file".to_owned(),
        ));
    }
    if read_only || stores.iter().all(|named| named.read_only) {
        return Err(Usage(
            "--collect records events, and every store is read-only".to_owned(),
        ));
    }
    Ok(())
}

/// Checks that the users of a store have string ids, as those of libraries do. A store that is
/// unreachable is checked with each request.
fn check_string_ids(named: &NamedStoreConfig, tracker: &Tracker) -> anyhow::Result<()> {
    if matches!(tracker.ids(), Ok(Ids::Numbers)) {
        let name = named.display();
        return Err(Usage(format!(
            "--collect: events of libraries need string ids, and the users of {name} are numbers: \
             start a new store with --ids map"
        ))
        .into());
    }
    Ok(())
}

/// The settings of the listener for Redis clients, if there is to be one.
fn resp_settings(args: &Args, memory: &Memory) -> Result<Option<resp::Settings>, Usage> {
    let Some(listen) = args.resp.clone().filter(|listen| !listen.is_empty()) else {
        if args.resp_password.is_some() || args.allow_flush {
            return Err(Usage(
                "--resp-password and --allow-flush need --resp ADDRESS".to_owned(),
            ));
        }
        return Ok(None);
    };
    Ok(Some(resp::Settings {
        listen: checked_address("--resp", listen, "6380")?,
        password: args
            .resp_password
            .clone()
            .filter(|password| !password.is_empty()),
        allow_flush: args.allow_flush,
        connections: usize::try_from(args.resp_connections).expect("a usize has at least 32 bits"),
        memory: memory.clients.clone(),
    }))
}

/// Checks that Redis clients can use the store, which is the first one, and need a password if
/// others can reach it.
fn check_resp(
    resp: &resp::Settings,
    first: &NamedStoreConfig,
    read_only: bool,
) -> Result<(), Usage> {
    if first.store.is_redis() {
        let shown = first.store.display();
        return Err(Usage(format!(
            "--resp: {shown} is already a Redis server, which clients can use directly"
        )));
    }
    if first.read_only || read_only {
        return Err(Usage(format!(
            "--resp: Redis clients write, and the store {} is read-only",
            first.display()
        )));
    }
    if resp.password.is_none() && !is_loopback(&resp.listen) {
        return Err(Usage(format!(
            "--resp: other machines can reach {}, so Redis clients need a password: set --resp-password or COHORTIST_RESP_PASSWORD",
            resp.listen
        )));
    }
    Ok(())
}

/// Notes that every user of this machine can read the files of a store.
fn note_if_public(named: &NamedStoreConfig) {
    if let Some(path) = named.store.path()
        && let Some(mode) = private::open_to_all(path)
    {
        let path = path.display();
        note!(
            "every user of this machine can access the files of {path} (mode {mode:o}). To prevent this: chmod -R go= {path}"
        );
    }
}

/// The memory of a server.
pub(super) struct Memory {
    pub shares: Shares,
    /// The memory that requests reserve while they exist.
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

/// The resources that a dashboard may use.
pub(super) struct Limits {
    pub page_cache: PageCache,
    pub memory: Memory,
    /// The maximum number of connections over HTTP.
    pub connections: usize,
}

/// Logs which keys under the prefix are not bitmaps of events, and under which other prefixes there
/// are events if this one is wrong. Runs in the background, because looking at all keys may take
/// long.
fn log_keys(tracker: Tracker, prefix: Prefix) {
    std::thread::spawn(move || {
        // An unreachable store is reported elsewhere.
        if tracker.check_types().is_err() {
            return;
        }
        if let Ok(others) = tracker.other_prefixes(&prefix)
            && let Some(warning) =
                words::other_prefixes(prefix.as_str(), &others.found, others.complete)
        {
            tracing::warn!("{warning}");
        }
        let strays = tracker.unparsed_keys();
        if strays.count > 0 {
            let warning = words::unparsed_keys(prefix.as_str(), strays.count, &strays.example);
            tracing::warn!("{warning}");
        }
    });
}

/// Whether only this machine can reach an address.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

fn serve_redis_clients(
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
    let address = listener.address();
    status!("Redis clients are served at redis://{address}");
    keyspace.publish_url(&format!("redis://{login}{address}"));
    Ok(listener)
}

/// Builds a dashboard of stores with the settings of a configuration file.
pub(super) fn dashboard(
    stores: Vec<NamedStore>,
    file: &File,
    limits: Limits,
    clock: Clock,
) -> Dashboard {
    let Limits {
        page_cache,
        memory,
        connections,
    } = limits;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Dashboard {
        title: file.title.clone().unwrap_or(TITLE.to_owned()),
        stores,
        glossary: file.glossary.clone(),
        calendar: file.calendar,
        question: file.question.clone(),
        clock,
        write_token: None,
        collect: None,
        collected: RecentNames::default(),
        page_cache,
        slow: SLOW,
        hosts: file.hosts.clone(),
        proxies: Proxies::default(),
        admission: Admission::new(memory.shares.at_once(cores)),
        memory: memory.clients,
        connections,
    }
}

/// Serves a dashboard until a signal stops it. Calls `ready` when it accepts requests.
pub(super) fn serve(
    listening: Listening,
    dashboard: impl Into<Live>,
    ready: impl FnOnce() + Send + 'static,
) -> anyhow::Result<()> {
    let live = dashboard.into();
    let read_only = live.dashboard().stores.iter().all(|store| store.read_only);
    server::run_on(listening, live, move |addresses| {
        print_addresses(addresses, read_only);
        ready();
    })?;
    Ok(())
}

/// Checks a write token. A short one could be guessed.
fn token(text: &str) -> Result<String, String> {
    if text.len() >= MIN_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "use at least {MIN_TOKEN} ASCII letters, digits and punctuation characters, without spaces"
        ))
    }
}

fn print_addresses(addresses: &[SocketAddr], read_only: bool) {
    for address in addresses {
        status!("cohortist is listening on http://{address}");
    }
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        let and_save = if read_only {
            ""
        } else {
            " and save segments (--read-only prevents that)"
        };
        note!(
            "anyone who can reach this address can see everything{and_save}: cohortist has no password of its own"
        );
    }
}
