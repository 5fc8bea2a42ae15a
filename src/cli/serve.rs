//! `cohortist serve`.

use std::net::SocketAddr;

use crate::cli::output::{Usage, say};
use crate::cli::store::StoreConfig;
use crate::clock::Clock;
use crate::tracker::Tracker;
use crate::web;

const EXAMPLES: &str = "\
EXAMPLES
  cohortist serve                                     http://127.0.0.1:8080, this machine only
  cohortist serve --listen 0.0.0.0:80                 for every machine that can reach this one
  cohortist --store redis://localhost:6379/0 serve    bitmapist's data in Redis
  COHORTIST_STORE=/data/cohortist.db COHORTIST_LISTEN=[::]:8080 cohortist serve

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
}

/// Where to listen.
pub struct Config {
    pub(super) listen: String,
}

impl TryFrom<Args> for Config {
    type Error = Usage;

    fn try_from(args: Args) -> Result<Self, Usage> {
        Config::new(args.listen)
    }
}

impl Config {
    pub fn new(listen: String) -> Result<Self, Usage> {
        let port = listen.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        if matches!(port, Some(Ok(_))) {
            return Ok(Config { listen });
        }
        let port = listen.trim_start_matches(':').parse::<u16>().map_or("8080".to_owned(), |port| port.to_string());
        Err(Usage(format!("--listen: `{listen}` is not an address: write 127.0.0.1:{port}, or 0.0.0.0:{port} for all")))
    }

    pub fn run(self, store: &StoreConfig, clock: Clock) -> anyhow::Result<()> {
        self.serve(store.open()?, clock)
    }

    /// Serves until told to stop.
    pub fn serve(self, tracker: Tracker, clock: Clock) -> anyhow::Result<()> {
        let settings = web::Settings { listen: self.listen, tracker, clock };
        Ok(web::run(settings, announce)?)
    }
}

fn announce(addresses: &[SocketAddr]) {
    for address in addresses {
        say!("cohortist is listening on http://{address}");
    }
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        say!("note: anyone who can reach this address can see everything; cohortist asks for no password");
    }
}
