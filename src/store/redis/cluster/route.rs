//! Routes requests to the node that owns a slot now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use ::redis::{Cmd, Value, cmd};

use super::topology::{Node, Primary, Topology, parse, reached, strangers};
use crate::store::redis::connection::{
    Batch, RedisConnection, Reply, ServerFault, accept, integer, last, unexpected,
};
use crate::store::redis::location::Address;
use crate::store::redis::pool::Pool;
use crate::store::{Options, Result, StoreError, redacted};

/// How long to wait for the remaining nodes after the first one has answered.
const LATECOMERS: Duration = Duration::from_millis(100);

/// The first and the longest pause before a request for a migrating slot is repeated.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// How long a mark waits for a replica to confirm it. Long enough for a replica on a busy machine:
/// what only the primary has is lost with it.
const CONFIRMATION: Duration = Duration::from_secs(1);

/// After this many timeouts in a row, a replica counts as hanging rather than busy.
const HANGS: u32 = 3;

/// How long no mark waits for a replica that hangs, so that it delays few marks and not all.
const IN_VAIN: Duration = Duration::from_secs(3);

/// A slot of a cluster.
pub(in crate::store::redis) struct Slot {
    nodes: Arc<Nodes>,
    number: u16,
    /// Set if the keys of a request are on both nodes of a migration. If present, such a request
    /// fails at once instead of waiting for the migration.
    between: Option<AtomicBool>,
}

impl Slot {
    pub(super) fn new(nodes: &Arc<Nodes>, number: u16) -> Self {
        Slot {
            nodes: Arc::clone(nodes),
            number,
            between: None,
        }
    }

    /// A slot for a request that can also be answered in another way, so that it need not wait for
    /// a migration.
    pub(super) fn hasty(nodes: &Arc<Nodes>, number: u16) -> Self {
        Slot {
            between: Some(AtomicBool::new(false)),
            ..Slot::new(nodes, number)
        }
    }

    /// Whether a [`hasty`](Self::hasty) request found its keys on both nodes of a migration.
    pub(super) fn was_between(&self) -> bool {
        self.between
            .as_ref()
            .is_some_and(|between| between.load(Ordering::Relaxed))
    }

    /// The address of the cluster, without any password.
    pub fn location(&self) -> &str {
        &self.nodes.location
    }

    /// Whether the node that owns it is on this machine.
    pub fn is_near(&self) -> bool {
        self.pool().is_ok_and(|pool| pool.is_near())
    }

    /// The connections to its owner, as far as known.
    fn pool(&self) -> Reply<Arc<Pool>> {
        let topology = self.nodes.topology()?;
        let owner = self.nodes.owner(&topology, self.number)?;
        self.nodes.pool(&owner.address)
    }

    /// Runs a request on a connection that has just answered. If the slot turns out to have moved,
    /// the request runs again on the new owner, so what it did before must be safe to repeat.
    pub fn with<T>(&self, run: impl Fn(&mut RedisConnection) -> Reply<T>) -> Reply<T> {
        self.nodes.at(self, run)
    }

    /// Opens a connection outside the limits of the pool.
    pub fn connect(&self, end: Instant) -> Reply<RedisConnection> {
        self.pool()?.connector().connect(end)
    }

    /// Waits until one replica has what was written on this connection, if the primary has
    /// replicas. A replica that does not confirm in time is not an error: the cluster continues
    /// without it.
    pub fn confirm(&self, conn: &mut RedisConnection) -> Reply<()> {
        let nodes = &self.nodes;
        let topology = nodes.topology()?;
        let Some(owner) = topology.owner(self.number) else {
            return Ok(());
        };
        // The topology may be out of date, so ask before assuming that there are no replicas.
        if nodes.waited_in_vain(&owner.address) || (owner.replicas == 0 && !has_replicas(conn)?) {
            return Ok(());
        }
        let reply = conn.ask(&nodes.confirmation())?;
        nodes.confirmed(&owner.address, &reply)
    }
}

/// The nodes of a cluster, and who owns which slots.
pub(in crate::store::redis) struct Nodes {
    /// `redis://` or `rediss://`, with the password.
    before_host: String,
    seeds: Vec<String>,
    pub location: String,
    pub options: Options,
    known: Mutex<Known>,
    /// Held while the nodes are asked again.
    asking: Mutex<()>,
}

#[derive(Default)]
struct Known {
    topology: Option<Arc<Topology>>,
    pools: HashMap<String, Arc<Pool>>,
    /// The primaries without a replica that confirmed in time: how often in a row, and when last.
    in_vain: HashMap<String, (u32, Instant)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The state is consistent between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nodes {
    /// Parses `redis-cluster://[user:password@]host:port,host:port…`. `rediss-cluster://` uses TLS.
    pub fn new(text: &str, options: &Options) -> Result<Self> {
        let bad = || StoreError::Url(redacted(text));
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let plain = scheme.strip_suffix("-cluster").ok_or_else(bad)?;
        let (login, hosts) = rest
            .rsplit_once('@')
            .map_or(("", rest), |(login, hosts)| (login, hosts));
        // A cluster has only database 0.
        let hosts = hosts
            .strip_suffix("/0")
            .or(hosts.strip_suffix('/'))
            .unwrap_or(hosts);
        let before_host = if login.is_empty() {
            format!("{plain}://")
        } else {
            format!("{plain}://{login}@")
        };
        let mut seeds = Vec::new();
        for host in hosts.split(',').map(str::trim) {
            let has_port = host
                .rsplit_once(':')
                .is_some_and(|(_, port)| !port.contains(']'));
            let host = if has_port {
                host.to_owned()
            } else {
                format!("{host}:6379")
            };
            // A path, a query or an empty host is a mistake in the URL.
            if host.starts_with(':') || host.contains(['/', '?', '#']) {
                return Err(bad());
            }
            Address::parse(&format!("{before_host}{host}")).map_err(|_| bad())?;
            seeds.push(host);
        }
        let location = format!("{scheme}://{}", seeds.join(","));
        let (known, asking) = Default::default();
        Ok(Nodes {
            before_host,
            seeds,
            location,
            options: options.clone(),
            known,
            asking,
        })
    }

    pub(super) fn error(&self, fault: ServerFault) -> StoreError {
        let location = self.location.clone();
        match fault {
            ServerFault::Dropped(reason)
            | ServerFault::Away(reason)
            | ServerFault::Moved(reason)
            | ServerFault::Between(reason) => StoreError::Unreachable { location, reason },
            ServerFault::Refused(reason) | ServerFault::Unwritable(reason) => {
                StoreError::Refused { location, reason }
            }
            ServerFault::NotABitmap(reason) => StoreError::NotABitmap { location, reason },
            ServerFault::Cancelled => StoreError::Cancelled,
        }
    }

    /// The connections to a node.
    pub fn pool(&self, address: &str) -> Reply<Arc<Pool>> {
        let mut known = locked(&self.known);
        if let Some(pool) = known.pools.get(address) {
            return Ok(Arc::clone(pool));
        }
        let parsed = Address::parse(&format!("{}{address}", self.before_host)).map_err(|_| {
            ServerFault::Away(format!(
                "a node reports {address} as its address, which is invalid"
            ))
        })?;
        let pool = Arc::new(Pool::new(
            parsed,
            self.options.connections,
            self.options.timeout,
        ));
        known.pools.insert(address.to_owned(), Arc::clone(&pool));
        Ok(pool)
    }

    pub(super) fn owner<'a>(&self, topology: &'a Topology, slot: u16) -> Reply<&'a Primary> {
        topology
            .owner(slot)
            .ok_or_else(|| ServerFault::Away(format!("no node of the cluster owns slot {slot}")))
    }

    /// Who owns which slots, as far as known.
    pub(super) fn topology(&self) -> Reply<Arc<Topology>> {
        let known = locked(&self.known).topology.clone();
        known.map_or_else(|| self.refresh(None), Ok)
    }

    /// Asks the nodes who owns which slots, unless another thread has done so since `stale`.
    pub(super) fn refresh(&self, stale: Option<&Arc<Topology>>) -> Reply<Arc<Topology>> {
        let _asking = locked(&self.asking);
        let known = locked(&self.known).topology.clone();
        if let Some(known) = &known
            && stale.is_none_or(|stale| !Arc::ptr_eq(stale, known))
        {
            return Ok(Arc::clone(known));
        }
        let mut addresses: Vec<String> = known
            .iter()
            .flat_map(|known| known.addresses.iter().cloned())
            .collect();
        addresses.extend(
            self.seeds
                .iter()
                .filter(|seed| !addresses.contains(seed))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let views = self.views(&addresses)?;
        if let Some((one, other)) = strangers(&views) {
            return Err(ServerFault::Refused(format!(
                "{one} and {other} are nodes of different clusters. Name nodes of one cluster only"
            )));
        }
        let fresh = Arc::new(Topology::of(&views));
        let mut known = locked(&self.known);
        known
            .in_vain
            .retain(|address, _| fresh.addresses.contains(address));
        known
            .pools
            .retain(|address, _| fresh.addresses.contains(address) || self.seeds.contains(address));
        known.topology = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// The views of all nodes that answer at about the same time as the first.
    fn views(&self, addresses: &[String]) -> Reply<Vec<Vec<Node>>> {
        let (sender, receiver) = mpsc::channel();
        for address in addresses {
            let (pool, sender, asked) = (self.pool(address)?, sender.clone(), address.clone());
            // Each on a separate thread, so that a hanging node delays no other. A thread ends at
            // the latest with its timeout.
            let ask = move || {
                let view = pool
                    .with(|conn| view(conn, &asked))
                    .map_err(|fault| at_node(&asked, fault));
                // The receiver is gone if other nodes were quicker.
                let _ = sender.send(view);
            };
            std::thread::Builder::new()
                .name("cluster-nodes".to_owned())
                .spawn(ask)
                .map_err(|error| {
                    ServerFault::Away(format!("could not start a thread to ask a node: {error}"))
                })?;
        }
        drop(sender);
        let mut end = Instant::now() + self.options.timeout;
        let (mut views, mut first_fault) = (Vec::new(), None);
        while let Ok(answer) = receiver.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            match answer {
                Ok(view) => {
                    views.push(view);
                    end = end.min(Instant::now() + LATECOMERS);
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        let nobody = || {
            ServerFault::Away(format!(
                "no node answered within {:.1} s",
                self.options.timeout.as_secs_f64()
            ))
        };
        if views.is_empty() {
            Err(first_fault.unwrap_or_else(nobody))
        } else {
            Ok(views)
        }
    }

    /// The command that waits until one replica has what was written on a connection.
    fn confirmation(&self) -> Cmd {
        let mut command = cmd("WAIT");
        command.arg(1).arg(
            CONFIRMATION
                .min(self.options.timeout / 2)
                .as_millis()
                .max(1)
                .to_string(),
        );
        command
    }

    /// Whether the replicas of a primary hang, as far as known.
    fn waited_in_vain(&self, address: &str) -> bool {
        let hangs = |(times, at): &(u32, Instant)| *times >= HANGS && at.elapsed() < IN_VAIN;
        locked(&self.known).in_vain.get(address).is_some_and(hangs)
    }

    fn confirmed(&self, address: &str, reply: &Value) -> Reply<()> {
        let confirmed = integer("WAIT", reply)? > 0;
        let mut known = locked(&self.known);
        if confirmed {
            known.in_vain.remove(address);
        } else {
            tracing::debug!(
                location = self.location,
                address,
                "no replica confirmed the write in time"
            );
            let (times, at) = known
                .in_vain
                .entry(address.to_owned())
                .or_insert((0, Instant::now()));
            (*times, *at) = (times.saturating_add(1), Instant::now());
        }
        Ok(())
    }

    /// Runs a request on the owner of a slot, and follows the slot if it moves.
    fn at<T>(
        self: &Arc<Self>,
        slot: &Slot,
        run: impl Fn(&mut RedisConnection) -> Reply<T>,
    ) -> Reply<T> {
        let Slot {
            number, between, ..
        } = slot;
        let end = Instant::now() + self.options.timeout;
        let mut topology = self.topology()?;
        let mut pause = PAUSES.0;
        loop {
            let owner = self.owner(&topology, *number)?;
            let run = |conn: &mut RedisConnection| {
                let nodes = Arc::clone(self);
                let from = owner.address.clone();
                conn.follow_by(Some(Box::new(move |to, commands| {
                    nodes.follow(&from, to, commands)
                })));
                let result = run(conn);
                conn.follow_by(None);
                result
            };
            let fault = match self.pool(&owner.address)?.with(run) {
                Err(fault @ (ServerFault::Refused(_) | ServerFault::NotABitmap(_))) => {
                    return Err(fault);
                }
                Err(fault) => at_node(&owner.address, fault),
                done => return done,
            };
            if let (ServerFault::Between(_), Some(between)) = (&fault, between) {
                between.store(true, Ordering::Relaxed);
                return Err(fault);
            }
            let fresh = self.refresh(Some(&topology))?;
            let elsewhere = fresh
                .owner(*number)
                .is_some_and(|fresh| fresh.address != owner.address);
            if Instant::now() >= end
                || !(elsewhere || matches!(fault, ServerFault::Moved(_) | ServerFault::Between(_)))
            {
                return Err(fault);
            }
            if !elsewhere {
                // The slot is migrating, or has moved so recently that not all nodes know.
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSES.1);
            }
            topology = fresh;
        }
    }

    /// Runs commands on the node `to`, to which keys of the node `from` have migrated.
    fn follow(&self, from: &str, to: &str, commands: &Batch) -> Reply<Vec<Value>> {
        let to = reached(to, from).ok_or_else(|| {
            ServerFault::Away(format!(
                "node {from} redirects to {to}, which is not a valid address"
            ))
        })?;
        let topology = self.topology()?;
        let address = topology.address(&to).unwrap_or(&to);
        let has_replicas = || {
            topology
                .primaries
                .iter()
                .any(|node| node.address == address && node.replicas > 0)
        };
        let confirm = commands.confirm && has_replicas() && !self.waited_in_vain(address);
        let mut batch = Batch::default();
        for command in commands.commands() {
            // Needed before each command: otherwise a node redirects requests for a slot that it
            // does not own yet.
            batch.push(&cmd("ASKING"));
            batch.push_packed(command);
        }
        if confirm {
            batch.push(&self.confirmation());
        }
        let ask = |conn: &mut RedisConnection| {
            let mut replies = conn.trip(&batch)?;
            if confirm {
                self.confirmed(address, &accept(last(&mut replies), None)?)?;
            }
            Ok(replies.into_iter().skip(1).step_by(2).collect())
        };
        let pool = self.pool(address)?;
        let asked = match pool.with(ask) {
            Err(ServerFault::Dropped(_)) => pool.with(ask),
            asked => asked,
        };
        asked.map_err(|fault| at_node(address, fault))
    }
}

/// Whether a primary reports connected replicas. `false` if this user may not use ROLE.
fn has_replicas(conn: &mut RedisConnection) -> Reply<bool> {
    let reply = conn.reply_to(&cmd("ROLE"))?;
    let Value::Array(parts) = &reply else {
        return Ok(false);
    };
    Ok(matches!(parts.get(2), Some(Value::Array(replicas)) if !replicas.is_empty()))
}

/// The view that a node has of the cluster.
pub(super) fn view(conn: &mut RedisConnection, asked: &str) -> Reply<Vec<Node>> {
    let reply = conn.reply_to(&*cmd("CLUSTER").arg("NODES"))?;
    read_view(reply, asked)
}

/// How a server outside of a cluster answers CLUSTER. The reply has no error code, so this text is
/// the protocol.
const NO_CLUSTER: &str = "cluster support disabled";

/// Parses the answer to `CLUSTER NODES`.
pub(super) fn read_view(reply: Value, asked: &str) -> Reply<Vec<Node>> {
    if let Value::ServerError(error) = &reply
        && error
            .details()
            .is_some_and(|words| words.contains(NO_CLUSTER))
    {
        return Err(ServerFault::Refused(
            "this is a single server, not a cluster: use redis:// in the URL".to_owned(),
        ));
    }
    let text = match accept(reply, None) {
        Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(Value::VerbatimString { text, .. }) => text,
        Ok(other) => return Err(unexpected("CLUSTER NODES", &other)),
        Err(fault) => return Err(fault),
    };
    parse(&text, asked).ok_or_else(|| {
        ServerFault::Refused("the answer to CLUSTER NODES is not a list of nodes".to_owned())
    })
}

/// Adds the node to a fault's message.
pub(super) fn at_node(address: &str, fault: ServerFault) -> ServerFault {
    fault.map(|reason| format!("node {address}: {reason}"))
}
