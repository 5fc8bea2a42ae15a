//! `cohortist demo`.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use anyhow::bail;
use clap::builder::FalseyValueParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::calendar::{Grain, Period};
use crate::cli::config::File;
use crate::cli::output::{Usage, say, written};
use crate::cli::serve;
use crate::cli::serve::{Descriptors, Memory, Room};
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
  cohortist demo                                   50,000 users, 120 days, on port 8080
  cohortist demo --users 2000 --days 30            smaller
  cohortist --store redis://localhost:6379/9 demo  into a Redis database of its own
  cohortist demo --no-serve                        fill it, to play in the terminal:
  cohortist --store ./cohortist-demo.db retention signup 'active & plan:pro@ever' --by week

Only an empty store is filled. One that a demo filled before (the event `demo:data` tells) is served
as it is; any other is refused. The same --seed and --now make the same data.";

/// The store when none is named.
pub const DEFAULT_STORE: &str = "./cohortist-demo.db";

/// The undated bitmap that tells a demo's store. It holds user 0 once filling began, and user 1
/// when it was done.
const MARKER: &str = "demo:data";
const BEGUN: u32 = 0;
const DONE: u32 = 1;

/// Bits written in one go.
const AT_ONCE: usize = 20_000;

/// Fill a store with a made-up product and serve it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How many users sign up
    #[arg(long, value_name = "N", env = "COHORTIST_USERS", default_value_t = 50_000,
          value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    users: u32,

    /// Over how many days, today being the last
    #[arg(long, value_name = "N", env = "COHORTIST_DAYS", default_value_t = 120,
          value_parser = clap::value_parser!(u32).range(1..=3_660))]
    days: u32,

    /// Another seed makes another product
    #[arg(long, value_name = "N", env = "COHORTIST_SEED", default_value_t = 1)]
    seed: u64,

    /// Address and port to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", env = "COHORTIST_LISTEN", default_value = serve::DEFAULT_LISTEN)]
    listen: String,

    /// Only fill the store
    #[arg(long, env = "COHORTIST_NO_SERVE", value_parser = FalseyValueParser::new())]
    no_serve: bool,
}

/// What to make up, and where to show it.
pub struct Config {
    users: u32,
    days: u32,
    seed: u64,
    /// The address to serve it on.
    listen: Option<String>,
    file: File,
    /// What the process may take, in bytes.
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
}

/// What a store holds, as far as a demo is concerned.
enum Found {
    Nothing,
    HalfADemo,
    Demo,
    Other(Vec<EventName>),
}

impl Config {
    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        let demo = Demo {
            users: self.users,
            days: self.days,
            seed: self.seed,
            now: clock.now(),
        };
        let marker = EventName::new(MARKER)?;
        // A port that is taken is found before the store is filled.
        let listening = self.listen.as_deref().map(Listening::bind).transpose()?;
        let memory = Memory::new(Shares::of(self.memory, None));
        let tracker = store.clone().with_memory(&memory.shares, 1).open()?;
        let shown = store.shown();
        if tracker.ids()? == Ids::Strings {
            bail!(
                "the demo's users are numbers, and those of {shown} are to be texts: leave --ids away, or name another store"
            );
        }
        match look(&tracker, &marker)? {
            Found::Nothing => {
                tracker.settle(Ids::Numbers)?;
                fill(&tracker, &demo, &marker, &shown)?;
            }
            Found::HalfADemo => {
                say!("{shown} holds an unfinished demo: starting over");
                written(tracker.delete_all())?;
                fill(&tracker, &demo, &marker, &shown)?;
            }
            Found::Demo => reuse(&tracker, &demo, store)?,
            Found::Other(names) => {
                let some: Vec<String> = names
                    .iter()
                    .take(3)
                    .map(|name| format!("`{name}`"))
                    .collect();
                bail!(
                    "{shown} already holds {} that no demo made ({}{}). Name an empty store with --store, or look at this one with `cohortist --store {shown} serve`",
                    many(names.len() as u64, "event"),
                    some.join(", "),
                    if names.len() > 3 { ", …" } else { "" },
                );
            }
        }
        let hint = format!("cohortist --store {shown} retention signup active --by week");
        match listening {
            Some(listening) => {
                // A store of its own belongs to one process at a time, and one in memory to this
                // one alone.
                if tracker.is_local() && shown != "memory:" {
                    say!("try, after Ctrl-C: {hint}");
                } else if !tracker.is_local() {
                    say!("try: {hint}");
                }
                let how = CacheOptions {
                    bytes: memory.shares.counts,
                    ..CacheOptions::default()
                };
                let tracker = tracker.with_cache(how, clock);
                let stores = vec![NamedStore {
                    name: "demo".to_owned(),
                    tracker,
                    read_only: self.file.read_only,
                }];
                let connections = Descriptors::raise().divide(0).1;
                let room = Room {
                    kept: PageCache::new(memory.shares.pages),
                    memory,
                    connections,
                };
                serve::serve(
                    listening,
                    serve::dashboard(stores, &self.file, room, clock),
                    || {},
                )
            }
            None => {
                say!("try: {hint}");
                Ok(())
            }
        }
    }
}

fn look(tracker: &Tracker, marker: &EventName) -> anyhow::Result<Found> {
    let names = tracker.events("")?;
    if names.is_empty() {
        return Ok(Found::Nothing);
    }
    if !tracker.contains(&Set::ever(marker), BEGUN)? {
        return Ok(Found::Other(names));
    }
    Ok(if tracker.contains(&Set::ever(marker), DONE)? {
        Found::Demo
    } else {
        Found::HalfADemo
    })
}

fn reuse(tracker: &Tracker, demo: &Demo, store: &StoreConfig) -> anyhow::Result<()> {
    let shown = store.shown();
    say!("{shown} was filled by a demo before; it is used as it is");
    let active = EventName::new("active")?;
    let today = Period::containing(Grain::Day, demo.now)?;
    if tracker.is_empty(&Set::event_in(&active, today))? {
        say!(
            "note: nobody was active today, as it was filled on another day. For fresh data: cohortist --store {shown} delete --all --yes, then demo again"
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
    let bar = bar(demo.users.into());
    let mut batch = tracker.batch();
    let mut marks = 0_u64;
    for person in demo.people() {
        for name in person.traits.iter().filter_map(|name| names.get(name)) {
            batch.mark_ever(name, person.id);
        }
        for action in &person.actions {
            let Some(name) = names.get(action.event) else {
                continue;
            };
            batch.mark_to(
                name,
                person.id,
                action.at,
                Extent {
                    hourly: action.hourly,
                    ever: false,
                },
            )?;
        }
        marks += person.actions.len() as u64;
        if batch.len() >= AT_ONCE {
            written(batch.commit())?;
            bar.set_position(person.id.into());
        }
    }
    batch.mark_ever(marker, DONE);
    written(batch.commit())?;
    bar.finish_and_clear();
    say!(
        "filled {shown} with {} over {}: {} marks in {:.1} s",
        many(demo.users.into(), "user"),
        many(demo.days.into(), "day"),
        thousands(marks),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn bar(users: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(users), ProgressDrawTarget::hidden());
    if io::IsTerminal::is_terminal(&io::stderr()) {
        bar.set_draw_target(ProgressDrawTarget::stderr());
    }
    let template = "{wide_bar} {human_pos} of {human_len} users, {eta} to go";
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    )
}
