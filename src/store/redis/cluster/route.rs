//! The way to whichever node has a slot now.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};

use super::topology::{Node, Primary, Topology, parse};
use crate::store::redis::connect::Pool;
use crate::store::redis::location::{Address, redacted};
use crate::store::redis::wire::{Batch, Conn, Fault, Reply, accept, integer, unexpected};
use crate::store::{Options, Result, StoreError};

/// How long a node's answer is waited for when others have told who has which slots.
const LATECOMERS: Duration = Duration::from_millis(100);

/// How long at first, and how long at last, until a slot that is on its way is asked for again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// How long a mark waits for a replica to have it.
const CONFIRMATION: Duration = Duration::from_millis(200);

/// Where the requests of a store go.
pub(in crate::store::redis) enum Route {
    /// To a server.
    Server(Pool),
    /// To the node of a cluster that has a slot.
    Slot(Arc<Nodes>, u16),
}

impl Route {
    /// What it is called, without any password.
    pub fn location(&self) -> &str {
        match self {
            Route::Server(pool) => pool.location(),
            Route::Slot(nodes, _) => &nodes.location,
        }
    }

    /// Whether it is on this machine; the nodes of a cluster are wherever they say.
    pub fn is_near(&self) -> bool {
        match self {
            Route::Server(pool) => pool.is_near(),
            Route::Slot(..) => false,
        }
    }

    /// Runs a request on a connection that has just answered. Where the slot turns out to be elsewhere, it is run again
    /// there; so what it did before it was told so must do no harm when it is done twice.
    pub fn with<T>(&self, run: impl Fn(&mut Conn) -> Reply<T>) -> Reply<T> {
        match self {
            Route::Server(pool) => pool.with(run),
            Route::Slot(nodes, slot) => nodes.at(*slot, run),
        }
    }

    /// A connection outside the pool's bounds.
    pub fn connect(&self, end: Instant) -> Reply<Conn> {
        match self {
            Route::Server(pool) => pool.connector().connect(end),
            Route::Slot(nodes, slot) => {
                let topology = nodes.topology()?;
                nodes.pool(&nodes.owner(&topology, *slot)?.address)?.connector().connect(end)
            }
        }
    }

    /// Waits until one replica has what was written on this connection, where there is one in sight. One that does not
    /// say so in time is not waited for: a cluster goes on when a replica is away.
    pub fn confirm(&self, conn: &mut Conn) -> Reply<()> {
        let Route::Slot(nodes, slot) = self else { return Ok(()) };
        if nodes.topology()?.owner(*slot).is_none_or(|owner| owner.replicas == 0) {
            return Ok(());
        }
        let limit = CONFIRMATION.min(nodes.options.timeout / 2).as_millis().max(1);
        if integer("WAIT", &conn.ask(cmd("WAIT").arg(1).arg(limit.to_string()))?)? < 1 {
            tracing::debug!(location = nodes.location, slot, "no replica has confirmed yet what was recorded");
        }
        Ok(())
    }
}

/// The nodes of a cluster, and who has which slots.
pub(in crate::store::redis) struct Nodes {
    /// `redis://` or `rediss://`, with the password.
    before_host: String,
    seeds: Vec<String>,
    pub location: String,
    pub options: Options,
    known: Mutex<Known>,
    /// Held by whoever asks the nodes anew.
    asking: Mutex<()>,
}

#[derive(Default)]
struct Known {
    topology: Option<Arc<Topology>>,
    pools: HashMap<String, Arc<Pool>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nodes {
    /// Reads `redis-cluster://[user:password@]host:port,host:port…`; `rediss-cluster://` speaks TLS.
    pub fn new(text: &str, options: &Options) -> Result<Self> {
        let bad = || StoreError::Url(redacted(text));
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let plain = scheme.strip_suffix("-cluster").ok_or_else(bad)?;
        let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
        // A cluster has one database.
        let hosts = hosts.strip_suffix("/0").or(hosts.strip_suffix('/')).unwrap_or(hosts);
        let before_host = if login.is_empty() { format!("{plain}://") } else { format!("{plain}://{login}@") };
        let mut seeds = Vec::new();
        for host in hosts.split(',').map(str::trim) {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
            let host = if has_port { host.to_owned() } else { format!("{host}:6379") };
            // A path, a query or a host that is none is a slip.
            if host.starts_with(':') || host.contains(['/', '?', '#']) {
                return Err(bad());
            }
            Address::parse(&format!("{before_host}{host}")).map_err(|_| bad())?;
            seeds.push(host);
        }
        let location = format!("{scheme}://{}", seeds.join(","));
        let (known, asking) = Default::default();
        Ok(Nodes { before_host, seeds, location, options: options.clone(), known, asking })
    }

    pub(super) fn error(&self, fault: Fault) -> StoreError {
        let location = self.location.clone();
        match fault {
            Fault::Dropped(reason) | Fault::Away(reason) | Fault::Moved(reason) => {
                StoreError::Unreachable { location, reason }
            }
            Fault::Refused(reason) | Fault::Unwritable(reason) => StoreError::Refused { location, reason },
        }
    }

    /// The connections to a node.
    pub fn pool(&self, address: &str) -> Reply<Arc<Pool>> {
        let mut known = locked(&self.known);
        if let Some(pool) = known.pools.get(address) {
            return Ok(Arc::clone(pool));
        }
        let parsed = Address::parse(&format!("{}{address}", self.before_host))
            .map_err(|_| Fault::Away(format!("a node says that it is at {address}, which is no address")))?;
        let pool = Arc::new(Pool::new(parsed, self.options.connections, self.options.timeout));
        known.pools.insert(address.to_owned(), Arc::clone(&pool));
        Ok(pool)
    }

    pub(super) fn owner<'a>(&self, topology: &'a Topology, slot: u16) -> Reply<&'a Primary> {
        topology.owner(slot).ok_or_else(|| Fault::Away(format!("no node of the cluster has slot {slot}")))
    }

    /// Who has which slots, as far as is known.
    pub(super) fn topology(&self) -> Reply<Arc<Topology>> {
        let known = locked(&self.known).topology.clone();
        known.map_or_else(|| self.refresh(None), Ok)
    }

    /// Asks the nodes who has which slots, unless somebody has since `stale` was known.
    pub(super) fn refresh(&self, stale: Option<&Arc<Topology>>) -> Reply<Arc<Topology>> {
        let _asking = locked(&self.asking);
        let known = locked(&self.known).topology.clone();
        if let Some(known) = &known
            && stale.is_none_or(|stale| !Arc::ptr_eq(stale, known))
        {
            return Ok(Arc::clone(known));
        }
        let mut addresses: Vec<String> = known.iter().flat_map(|known| known.addresses.iter().cloned()).collect();
        addresses.extend(self.seeds.iter().filter(|seed| !addresses.contains(seed)).cloned().collect::<Vec<_>>());
        let views = self.views(&addresses)?;
        let fresh = Arc::new(Topology::of(&views));
        let mut known = locked(&self.known);
        known.pools.retain(|address, _| fresh.addresses.contains(address) || self.seeds.contains(address));
        known.topology = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// What nodes know of each other: of all that answer about as soon as the first.
    fn views(&self, addresses: &[String]) -> Reply<Vec<Vec<Node>>> {
        let (sender, receiver) = mpsc::channel();
        for address in addresses {
            let (pool, sender, asked) = (self.pool(address)?, sender.clone(), address.clone());
            // On threads of their own, as one that hangs must not be waited for; each ends with its time-out.
            let ask = move || {
                let view = pool.with(|conn| view(conn, &asked)).map_err(|fault| at_node(&asked, fault));
                // Nobody listens any more when others were quicker.
                let _ = sender.send(view);
            };
            std::thread::Builder::new()
                .name("cluster-nodes".to_owned())
                .spawn(ask)
                .map_err(|error| Fault::Away(format!("no thread to ask a node on: {error}")))?;
        }
        drop(sender);
        let mut end = Instant::now() + self.options.timeout;
        let (mut views, mut first_fault) = (Vec::new(), None);
        while let Ok(answer) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            match answer {
                Ok(view) => {
                    views.push(view);
                    end = end.min(Instant::now() + LATECOMERS);
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        let nobody = || Fault::Away(format!("no node answered within {:.1} s", self.options.timeout.as_secs_f64()));
        if views.is_empty() { Err(first_fault.unwrap_or_else(nobody)) } else { Ok(views) }
    }

    /// Runs a request where a slot is, and where it has gone to meanwhile.
    fn at<T>(&self, slot: u16, run: impl Fn(&mut Conn) -> Reply<T>) -> Reply<T> {
        let end = Instant::now() + self.options.timeout;
        let mut topology = self.topology()?;
        let mut pause = PAUSES.0;
        loop {
            let owner = self.owner(&topology, slot)?;
            let fault = match self.pool(&owner.address)?.with(&run) {
                Err(Fault::Refused(reason)) => return Err(Fault::Refused(reason)),
                Err(fault) => at_node(&owner.address, fault),
                done => return done,
            };
            let fresh = self.refresh(Some(&topology))?;
            let elsewhere = fresh.owner(slot).is_some_and(|fresh| fresh.address != owner.address);
            if Instant::now() >= end || !(elsewhere || matches!(fault, Fault::Moved(_))) {
                return Err(fault);
            }
            if !elsewhere {
                // On its way, or moved so lately that not all nodes know.
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSES.1);
            }
            topology = fresh;
        }
    }
}

/// What a node knows of all.
pub(super) fn view(conn: &mut Conn, asked: &str) -> Reply<Vec<Node>> {
    let reply = conn.trip(&Batch::of([&*cmd("CLUSTER").arg("NODES")]))?.pop().unwrap_or_default();
    read_view(reply, asked)
}

/// Reads the answer to `CLUSTER NODES`.
pub(super) fn read_view(reply: Value, asked: &str) -> Reply<Vec<Node>> {
    let text = match accept(reply, None) {
        Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(Value::VerbatimString { text, .. }) => text,
        Ok(other) => return Err(unexpected("CLUSTER NODES", &other)),
        Err(Fault::Refused(words)) if words.contains("cluster support disabled") => {
            return Err(Fault::Refused("this is a single server and no cluster: name it with redis://".to_owned()));
        }
        Err(fault) => return Err(fault),
    };
    parse(&text, asked)
        .ok_or_else(|| Fault::Refused("CLUSTER NODES was answered with what is no list of nodes".to_owned()))
}

/// Says which node it was.
pub(super) fn at_node(address: &str, fault: Fault) -> Fault {
    fault.map(|reason| format!("node {address}: {reason}"))
}
