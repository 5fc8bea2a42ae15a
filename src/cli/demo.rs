//! `cohortist demo`.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::time::Instant;

use anyhow::bail;
use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::calendar::{Grain, Period};
use crate::cli::config::File;
use crate::cli::output::{Usage, note, status, warn_if_unsynced};
use crate::cli::serve::{self, Descriptors, Hangups, Limits, Memory};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::demo::Demo;
use crate::render::{many, thousands};
use crate::server::{Listening, NamedStore, PageCache};
use crate::sets::{EventName, Set};
use crate::store::CacheOptions;
use crate::store::budget::Shares;
use crate::tracker::{Extent, Ids, Tracker};

const EXAMPLES: &str = "\
EXAMPLES
  cohortist demo                                    50,000 users, 120 days
  cohortist demo --users 2000 --days 30             a smaller demo
  cohortist --store redis://localhost:6379/9 demo   in an empty Redis database
  cohortist demo --no-serve                         then ask in the terminal:
  cohortist --store cohortist-demo.db retention signup 'active & plan:pro@ever'

Only an empty store is filled. A store that a demo filled before (it has the event `demo:data`) is \
served unchanged, and any other store is refused. The same --seed and --now make the same data.";

/// The store if none is named.
pub const DEFAULT_STORE: &str = "./cohortist-demo.db";

/// The undated bitmap that marks the store of a demo. Filling adds user [`BEGUN`] first and user
/// [`DONE`] last.
const MARKER: &str = "demo:data";
const BEGUN: u32 = 0;
const DONE: u32 = 1;

/// The number of bits written in one batch.
const BATCH_BITS: usize = 20_000;

/// The number of foreign events that an error names.
const NAMED_EVENTS: usize = 3;

/// Fill a store with made-up data and serve it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Number of users who sign up
    #[arg(long, value_name = "N", env = "COHORTIST_USERS", default_value_t = 50_000,
          value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    users: u32,

    /// Number of days, up to today
    #[arg(long, value_name = "N", env = "COHORTIST_DAYS", default_value_t = 120,
          value_parser = clap::value_parser!(u32).range(1..=3_660))]
    days: u32,

    /// Seed of the random data
    #[arg(long, value_name = "N", env = "COHORTIST_SEED", default_value_t = 1)]
    seed: u64,

    /// Address and port to listen on; port 0 picks a free one
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "COHORTIST_LISTEN",
        default_value = serve::DEFAULT_LISTEN
    )]
    listen: String,

    /// Only fill the store
    #[arg(long, env = "COHORTIST_NO_SERVE", value_parser = FalseyValueParser::new())]
    no_serve: bool,
}

pub struct Config {
    users: u32,
    days: u32,
    seed: u64,
    /// The address to listen on, or `None` to only fill the store.
    listen: Option<String>,
    file: File,
    /// The memory limit of the process, in bytes.
    memory: u64,
}

impl Config {
    pub fn new(args: Args, file: File, memory: u64) -> Result<Self, Usage> {
        let listen = Some(serve::address(args.listen)?).filter(|_| !args.no_serve);
        Ok(Config {
            users: args.users,
            days: args.days,
            seed: args.seed,
            listen,
            file,
            memory,
        })
    }

    /// Whether it serves the store after filling it.
    pub fn serves(&self) -> bool {
        self.listen.is_some()
    }
}

/// The contents of a store before the demo.
enum Contents {
    Empty,
    UnfinishedDemo,
    Demo,
    OtherEvents(Vec<EventName>),
}

impl Config {
    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        // Before the store is filled, so that a port in use changes nothing.
        let listening = self.listen.as_deref().map(Listening::bind).transpose()?;
        let memory = Memory::new(Shares::of(self.memory, None));
        let tracker = store.clone().with_memory(&memory.shares, 1).open()?;
        self.prepare(&tracker, store, clock)?;
        // Like `serve`, it survives SIGHUP. There is no configuration to reload.
        let _hangups = Hangups::listen()?;
        let shown = store.display();
        let hint = format!("cohortist --store {shown} retention signup active --by week");
        let Some(listening) = listening else {
            status!("try: {hint}");
            return Ok(());
        };
        // Only this process can read a store in memory, and while it runs also one at a path.
        if store.is_redis() {
            status!("try: {hint}");
        } else if store.path().is_some() {
            status!("try, after Ctrl-C: {hint}");
        }
        let cache = CacheOptions {
            bytes: memory.shares.counts,
            ..CacheOptions::default()
        };
        let stores = vec![NamedStore {
            name: "demo".to_owned(),
            tracker: tracker.with_cache(cache, clock),
            read_only: self.file.read_only,
        }];
        let limits = Limits {
            page_cache: PageCache::new(memory.shares.pages),
            memory,
            connections: Descriptors::raise().divide(0).http,
        };
        let dashboard = serve::dashboard(stores, &self.file, limits, clock);
        serve::serve(listening, dashboard, || {})
    }

    /// Fills the store unless it has a complete demo already.
    fn prepare(&self, tracker: &Tracker, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let demo = Demo {
            users: self.users,
            days: self.days,
            seed: self.seed,
            now: clock.now(),
        };
        let marker = EventName::new(MARKER)?;
        let shown = store.display();
        if tracker.ids()? == Ids::Strings {
            bail!(
                "the demo's user ids are numbers, and {shown} has string ids. Name another store, and leave out --ids"
            );
        }
        match contents(tracker, &marker)? {
            Contents::Empty => {
                tracker.settle(Ids::Numbers)?;
                fill(tracker, &demo, &marker, &shown)
            }
            Contents::UnfinishedDemo => {
                status!("{shown} has an unfinished demo: starting over");
                warn_if_unsynced(tracker.delete_all())?;
                fill(tracker, &demo, &marker, &shown)
            }
            Contents::Demo => reuse(tracker, &demo, &shown),
            Contents::OtherEvents(names) => {
                let mut listed: Vec<String> = names
                    .iter()
                    .take(NAMED_EVENTS)
                    .map(|name| format!("`{name}`"))
                    .collect();
                if names.len() > NAMED_EVENTS {
                    listed.push("…".to_owned());
                }
                bail!(
                    "{shown} has {} that no demo created ({}). Name an empty store with --store, or serve this one with `cohortist --store {shown} serve`",
                    many(names.len() as u64, "event"),
                    listed.join(", "),
                );
            }
        }
    }
}

fn contents(tracker: &Tracker, marker: &EventName) -> anyhow::Result<Contents> {
    let names = tracker.events("")?;
    if names.is_empty() {
        return Ok(Contents::Empty);
    }
    let has_begun = tracker.contains(&Set::ever(marker), BEGUN)?;
    if !has_begun {
        return Ok(Contents::OtherEvents(names));
    }
    Ok(if tracker.contains(&Set::ever(marker), DONE)? {
        Contents::Demo
    } else {
        Contents::UnfinishedDemo
    })
}

fn reuse(tracker: &Tracker, demo: &Demo, shown: &str) -> anyhow::Result<()> {
    status!("{shown} was filled by an earlier demo and is used unchanged");
    let active = EventName::new("active")?;
    let today = Period::containing(Grain::Day, demo.now)?;
    if tracker.is_empty(&Set::event_in(&active, today))? {
        note!(
            "the demo data ends before today. For fresh data, run `cohortist --store {shown} delete --all --yes`, then the demo again"
        );
    }
    Ok(())
}

fn fill(tracker: &Tracker, demo: &Demo, marker: &EventName, shown: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let names: HashMap<&str, EventName> = Demo::event_names()
        .map(|name| Ok((name, EventName::new(name)?)))
        .collect::<anyhow::Result<_>>()?;
    tracker.mark_ever(marker, BEGUN)?;
    let bar = progress_bar(demo.users.into());
    let mut batch = tracker.batch();
    let mut marks = 0_u64;
    for person in demo.people() {
        for name in &person.traits {
            batch.mark_ever(&names[*name], person.id);
        }
        for action in &person.actions {
            let extent = Extent {
                hourly: action.hourly,
                ever: false,
            };
            batch.mark_to(&names[action.event], person.id, action.at, extent)?;
        }
        marks += person.actions.len() as u64;
        if batch.len() >= BATCH_BITS {
            warn_if_unsynced(batch.commit())?;
            bar.set_position(person.id.into());
        }
    }
    batch.mark_ever(marker, DONE);
    warn_if_unsynced(batch.commit())?;
    bar.finish_and_clear();
    status!(
        "filled {shown} with {} over {}: {} marks in {:.1} s",
        many(demo.users.into(), "user"),
        many(demo.days.into(), "day"),
        thousands(marks),
        started.elapsed().as_secs_f64()
    );
    let release = demo.release();
    status!(
        "a release on {release} helped: cohortist --store {shown} retention signup active --by week --split {release}"
    );
    Ok(())
}

/// A progress bar, visible only in a terminal.
fn progress_bar(users: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(users), ProgressDrawTarget::hidden());
    if io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
    }
    let style =
        ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} users, {eta} left");
    bar.with_style(style.expect("the template is valid"))
}
