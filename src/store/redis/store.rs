//! [`RedisStore`]: a store on a Redis server, or on one shard of a cluster.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};

use crate::bitmap;
use crate::sets::{Key, Node, Plan, Prefix, Set, UserId};
use crate::store::cost::{self, Cost, UNKNOWN_TILES};
use crate::store::redis::capabilities::Capabilities;
use crate::store::redis::client_tracking::ClientTracking;
use crate::store::redis::connection::{
    Batch, RedisConnection, Reply, ServerFault, accept, integer, natural,
};
use crate::store::redis::id_keys;
use crate::store::redis::local_eval;
use crate::store::redis::local_eval::Fetcher;
use crate::store::redis::location::Address;
use crate::store::redis::lower::{Script, Source, resolve};
use crate::store::redis::members::Bitmap;
use crate::store::redis::needs;
use crate::store::redis::pool::Pool;
use crate::store::redis::route::Route;
use crate::store::redis::scan;
use crate::store::redis::server_eval::{Executor, Scratch, expiry, time_for, work};
use crate::store::traits::plan_of;
use crate::store::unparsed_keys::{LeftOut, as_is, prefix_of};
use crate::store::{
    BitmapState, ChangeFeed, IdMap, KeyListing, Maintenance, Mark, Options, OtherPrefixes,
    RedisEval, Result, Saved, Store, StoreError, StoreInfo, UnparsedKeys,
};

/// The most cheap commands in one trip.
pub(super) const SMALL_COMMANDS: usize = 4096;

/// How long a server that refused writes is assumed to still refuse them. A replica may be
/// promoted, and a user may be given permission.
pub(super) const RECHECK: Duration = Duration::from_secs(5);

/// Under [`RedisEval::Auto`], bitmaps are fetched if the server would have to process this many
/// times the bytes that must be fetched. A server processes about 8 GB/s. Fetching and counting
/// reach about 1 GB/s over a local socket (NEAR), and otherwise the speed of the link, assumed to
/// be 1 Gbit/s (FAR). On a slower link `auto` may fetch too much. On a faster one it may fetch too
/// little, which is never slower than computing on the server. `benches/redis_eval.rs` measures
/// this: of a 31 × 13 table over 10 M users, sign-ups are fetched over any link (0.9 MB for 1.2 GB
/// of work), and users active on each of 31 days only nearby (39 MB for 1.1 GB).
pub(super) const FAR: u64 = 64;

pub(super) const NEAR: u64 = 8;

/// Bitmaps in Redis ≥ 5, Valkey or bitmapist-server, bit for bit as bitmapist stores them.
///
/// * Opening the store does not connect. Each request either reaches Redis or fails within the
///   timeout, and the next one tries again.
/// * [`count`](Store::count) runs a plan in chunks, between which Redis serves other clients. The
///   counts of one chunk are of one moment. Marks that arrive meanwhile may be in the counts of
///   later chunks and not in those of earlier ones.
/// * Unions and intersections are computed into temporary keys, `{prefix}bitop_cohortist:…`. They
///   are deleted before a request returns, whether it succeeds or not. Outside a transaction, every
///   temporary key has an expiry: if this process is killed, they are gone within a minute. (On
///   servers without transactions a key may lack its expiry for a moment; `sweep` removes what is
///   left.)
/// * If the server accepts no writes (a replica) or none from this user, or if it is cheaper,
///   bitmaps are fetched and counted here ([`RedisEval`]). The store detects this and keeps
///   checking. Saving always computes on the server.
/// * A password in the URL never appears in an error or a description.
pub struct RedisStore {
    pub(super) route: Route,
    pub(super) prefix: Prefix,
    pub(super) eval: RedisEval,
    /// Learned at first use. The time matters only if the server refuses writes.
    pub(super) learned: Mutex<Option<(Capabilities, Instant)>>,
    /// The number of tiles of the longest bitmap seen so far.
    pub(super) longest: AtomicU64,
    pub(super) watch: Box<ClientTracking>,
    /// Whether the prefix is settled on numeric ids and nothing has been marked since.
    pub(super) settled: AtomicBool,
    /// Shared by the shards of a cluster.
    pub(super) left_out: Arc<LeftOut>,
}

impl RedisStore {
    /// A store at `redis://[user:password@]host[:6379][/database]`, `rediss://…` (TLS),
    /// `valkey://…`, `valkeys://…`, `redis+unix:///path[?db=1&user=…&pass=…]` or `unix://…`.
    ///
    /// # Errors
    /// [`StoreError::Url`] if the URL is invalid. An unreachable server is not an error here.
    pub fn new(url: &str, options: &Options) -> Result<Self> {
        let route = Route::Server(Pool::new(
            Address::parse(url)?,
            options.connections,
            options.timeout,
        ));
        let (prefix, eval) = (options.prefix.clone(), options.redis_eval);
        Ok(RedisStore::at(route, prefix, eval, None))
    }

    /// A store behind a route, with what is already known about its server.
    pub(super) fn at(
        route: Route,
        prefix: Prefix,
        eval: RedisEval,
        known: Option<Capabilities>,
    ) -> Self {
        let learned = Mutex::new(known.map(|known| (known, Instant::now())));
        RedisStore {
            route,
            prefix,
            eval,
            learned,
            longest: AtomicU64::new(UNKNOWN_TILES),
            watch: Box::default(),
            settled: AtomicBool::default(),
            left_out: Arc::default(),
        }
    }

    /// Runs a request, and repeats it once if its connection turns out to be broken, for example
    /// because Redis restarted between the PING and the request. Requests must be safe to repeat.
    pub(super) fn with<T>(
        &self,
        run: impl Fn(&mut RedisConnection, &Capabilities) -> Reply<T>,
    ) -> Result<T> {
        self.twice(RECHECK, run)
    }

    /// Like [`with`](Self::with), for requests that write more than marks. Checks the capabilities
    /// again if the server refused writes, because temporary keys get an expiry only where that is
    /// allowed.
    pub(super) fn with_to_write<T>(
        &self,
        run: impl Fn(&mut RedisConnection, &Capabilities) -> Reply<T>,
    ) -> Result<T> {
        self.twice(Duration::ZERO, run)
    }

    /// Like [`with_to_write`](Self::with_to_write), for requests that must not be repeated.
    pub(super) fn once_to_write<T>(
        &self,
        run: impl Fn(&mut RedisConnection, &Capabilities) -> Reply<T>,
    ) -> Result<T> {
        self.once(Duration::ZERO, run)
            .map_err(|fault| self.error(fault))
    }

    pub(super) fn twice<T>(
        &self,
        believed: Duration,
        run: impl Fn(&mut RedisConnection, &Capabilities) -> Reply<T>,
    ) -> Result<T> {
        match self.once(believed, &run) {
            Err(ServerFault::Dropped(reason)) => {
                tracing::debug!(
                    location = self.route.location(),
                    reason,
                    "the connection broke; retrying once"
                );
                self.once(believed, &run)
            }
            result => result,
        }
        .map_err(|fault| self.error(fault))
    }

    pub(super) fn once<T>(
        &self,
        believed: Duration,
        run: impl Fn(&mut RedisConnection, &Capabilities) -> Reply<T>,
    ) -> Reply<T> {
        self.route.with(|conn| {
            let capabilities = self.capabilities(conn, believed)?;
            let result = run(conn, &capabilities);
            self.unlearn(&result);
            result
        })
    }

    /// The capabilities of the server. A refusal of writes is trusted for `believed`.
    pub(super) fn capabilities(
        &self,
        conn: &mut RedisConnection,
        believed: Duration,
    ) -> Reply<Capabilities> {
        let known = self
            .learned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((known, at)) = &known
            && (known.refusal.is_none() || at.elapsed() < believed)
        {
            return Ok(known.clone());
        }
        let new = Capabilities::probe(conn, &Scratch::new(&self.prefix).nobody())?;
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let before = learned
            .as_ref()
            .and_then(|(known, _)| known.refusal.as_ref());
        let location = self.route.location();
        // Under the lock, so that concurrent requests log the change once.
        match (before, &new.refusal) {
            (None, Some(reason)) => {
                tracing::info!(location, "{} ({reason})", self.read_only_note())
            }
            (Some(_), None) => tracing::info!(location, "this Redis accepts writes again"),
            _ => {}
        }
        *learned = Some((new.clone(), Instant::now()));
        Ok(new)
    }

    /// Makes the next request check the capabilities again if the server had refused writes and has
    /// now accepted one.
    fn took_write(&self) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let was_refusing = learned.take_if(|(known, _)| known.refusal.is_some());
        if was_refusing.is_some() {
            tracing::info!(
                location = self.route.location(),
                "this Redis accepts writes again"
            );
        }
    }

    /// Makes the next request check the capabilities again after a refused write.
    pub(super) fn unlearn<T>(&self, result: &Reply<T>) {
        if let Err(ServerFault::Unwritable(_)) = result {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            learned.take_if(|(known, _)| known.refusal.is_none());
        }
    }

    pub(super) fn read_only_note(&self) -> &'static str {
        match self.eval {
            RedisEval::Server => {
                "this Redis accepts no writes from this client, and --redis-eval server needs them: intersections cannot be counted"
            }
            _ => {
                "this Redis accepts no writes from this client: bitmaps are fetched and counted locally, and nothing can be marked or saved"
            }
        }
    }

    /// Runs a request that may create temporary keys, and always deletes them. If the server turns
    /// out to refuse writes, the request runs once more with `true` as its last argument.
    pub(super) fn evaluated<T>(
        &self,
        run: impl Fn(&mut RedisConnection, &Capabilities, &mut Scratch, bool) -> Reply<T>,
    ) -> Result<T> {
        let refused = Cell::new(false);
        let run = |conn: &mut RedisConnection, capabilities: &Capabilities| {
            let refused = refused.get();
            self.cleaned(conn, capabilities, |conn, capabilities, scratch| {
                run(conn, capabilities, scratch, refused)
            })
        };
        self.with(|conn, capabilities| match run(conn, capabilities) {
            Err(ServerFault::Unwritable(reason))
                if self.eval == RedisEval::Auto && !refused.get() =>
            {
                tracing::debug!(
                    location = self.route.location(),
                    reason,
                    "the server refused a write; counting locally"
                );
                self.unlearn(&Err::<(), _>(ServerFault::Unwritable(reason)));
                refused.set(true);
                let capabilities = self.capabilities(conn, RECHECK)?;
                run(conn, &capabilities)
            }
            Err(ServerFault::Unwritable(reason)) if self.eval == RedisEval::Server => {
                Err(ServerFault::Unwritable(format!(
                    "{reason}; --redis-eval auto fetches bitmaps and counts them locally"
                )))
            }
            result => result,
        })
    }

    pub(super) fn cleaned<T>(
        &self,
        conn: &mut RedisConnection,
        capabilities: &Capabilities,
        run: impl Fn(&mut RedisConnection, &Capabilities, &mut Scratch) -> Reply<T>,
    ) -> Reply<T> {
        let mut scratch = Scratch::new(&self.prefix);
        let result = run(conn, capabilities, &mut scratch);
        if let Some(deletion) = scratch.deletion(capabilities) {
            self.clean_up(conn, &Batch::of([&deletion]), &result);
            scratch.forget();
        }
        result
    }

    /// Deletes temporary keys on a best-effort basis. What is left expires.
    pub(super) fn clean_up<T>(
        &self,
        conn: &mut RedisConnection,
        deletion: &Batch,
        result: &Reply<T>,
    ) {
        // A short limit, because the caller has already waited for the answer.
        let limit = Duration::from_millis(300).min(conn.timeout());
        if conn.is_broken() {
            // A server that just timed out is not tried again.
            if !matches!(result, Err(ServerFault::Dropped(_))) {
                return;
            }
            match self.route.connect(Instant::now() + limit) {
                Ok(fresh) => *conn = fresh,
                Err(_) => return,
            }
        }
        let _ = conn.trip_within(deletion, limit);
    }

    pub(super) fn error(&self, fault: ServerFault) -> StoreError {
        let location = self.route.location().to_owned();
        match fault {
            ServerFault::Dropped(reason) | ServerFault::Away(reason) => {
                StoreError::Unreachable { location, reason }
            }
            ServerFault::Moved(reason) | ServerFault::Between(reason) => match self.route {
                Route::Server(_) => {
                    let hint = "this is a node of a cluster: use redis-cluster:// in the URL";
                    StoreError::Refused {
                        location,
                        reason: format!("{reason} — {hint}"),
                    }
                }
                #[cfg(feature = "cluster")]
                Route::Slot(..) => StoreError::Unreachable { location, reason },
            },
            ServerFault::Refused(reason) | ServerFault::Unwritable(reason) => {
                StoreError::Refused { location, reason }
            }
            ServerFault::NotABitmap(reason) => {
                self.left_out.suspect();
                StoreError::NotABitmap { location, reason }
            }
            ServerFault::Cancelled => StoreError::Cancelled,
        }
    }

    /// Asks for the sizes of a plan's bitmaps and resolves it. Also returns the text of the key at
    /// each node.
    pub(super) fn prepare(
        &self,
        conn: &mut RedisConnection,
        capabilities: &Capabilities,
        plan: &Plan,
    ) -> Reply<(Script, Vec<String>)> {
        let (texts, lengths) = self.measure(conn, capabilities, plan)?;
        Ok((resolve(plan, &lengths), texts))
    }

    /// The text of the key at each node of a plan, and how many bytes it has.
    pub(super) fn measure(
        &self,
        conn: &mut RedisConnection,
        capabilities: &Capabilities,
        plan: &Plan,
    ) -> Reply<Measures> {
        let texts: Vec<String> = plan
            .nodes()
            .iter()
            .map(|node| {
                if let Node::Key(key) = node {
                    key.text(&self.prefix)
                } else {
                    String::new()
                }
            })
            .collect();
        let keys: Vec<(usize, &String)> = texts
            .iter()
            .enumerate()
            .filter(|(_, text)| !text.is_empty())
            .collect();
        let mut lengths = vec![Some(0); texts.len()];
        let replies = lengths_of(
            conn,
            capabilities,
            &keys.iter().map(|(_, text)| *text).collect::<Vec<_>>(),
        )?;
        for ((node, _), length) in keys.into_iter().zip(replies) {
            lengths[node] = length;
        }
        let longest = lengths
            .iter()
            .flatten()
            .max()
            .map_or(0, |bytes| needs::tiles_of(*bytes).into());
        self.longest.fetch_max(longest, Ordering::Relaxed);
        Ok((texts, lengths))
    }

    /// Counts the roots of a plan locally, or returns `None` if the server is to count them. A root
    /// whose count is `None` was not fetched whole.
    pub(super) fn count_here(
        &self,
        fetcher: Reply<Fetcher<'_>>,
        capabilities: &Capabilities,
        script: &Script,
        refused: bool,
    ) -> Reply<Option<Vec<Option<u64>>>> {
        let choice = self.eval == RedisEval::Auto && capabilities.refusal.is_none() && !refused;
        if self.eval == RedisEval::Server || (choice && !capabilities.can_fetch()) {
            return Ok(None);
        }
        let mut fetcher = fetcher?;
        let worth = work(script) / if self.route.is_near() { NEAR } else { FAR };
        // For cheap work, the trip to compare costs more than it saves.
        if choice && (worth < bitmap::TILE_BYTES || !fetcher.is_within(worth)?) {
            return Ok(None);
        }
        fetcher.count().map(Some)
    }

    /// Whether lists of users are computed locally. They are read a page at a time, and the server
    /// would have to compute the whole set for each page.
    pub(super) fn fetches_members(&self, capabilities: &Capabilities) -> bool {
        match self.eval {
            RedisEval::Fetch => true,
            RedisEval::Server => false,
            RedisEval::Auto => capabilities.refusal.is_some() || capabilities.can_fetch(),
        }
    }
}

/// Has the server count the roots that were not fetched whole. It does so last: marks that arrive
/// in between then make the size of a cohort greater, and never smaller than what is left of it.
pub(super) fn count_rest(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    scratch: &mut Scratch,
    plan: &Plan,
    script: Script,
    keys: &[String],
    found: Vec<Option<u64>>,
) -> Reply<Vec<u64>> {
    let left = plan
        .roots()
        .iter()
        .zip(&found)
        .filter(|(_, count)| count.is_none());
    let roots = left.map(|(root, _)| Source::Key(root.index())).collect();
    let script = Script {
        steps: Vec::new(),
        roots,
        lengths: script.lengths,
    };
    let capabilities = &capabilities.to_read();
    let counts = Executor {
        conn,
        capabilities,
        scratch,
        keys,
    }
    .count(&script)?;
    Ok(plan
        .roots()
        .iter()
        .zip(found)
        .map(|(root, count)| count.unwrap_or_else(|| counts.of(Source::Key(root.index()))))
        .collect())
}

pub(super) type Measures = (Vec<String>, Vec<Option<u64>>);

/// The length of each key in bytes: 0 if the key does not exist, `None` if the server cannot report
/// it.
pub(super) fn lengths_of(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    keys: &[&String],
) -> Reply<Vec<Option<u64>>> {
    let mut lengths = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(SMALL_COMMANDS) {
        let mut batch = Batch::default();
        let command = if capabilities.lengths {
            "STRLEN"
        } else {
            "TTL"
        };
        chunk
            .iter()
            .for_each(|key| batch.push(cmd(command).arg(key)));
        for (key, reply) in chunk.iter().zip(conn.trip(&batch)?) {
            let reply = accept(reply, Some((*key).clone()))?;
            lengths.push(match integer(command, &reply)? {
                _ if capabilities.lengths => Some(natural(command, &reply)?),
                // TTL answers -2 if the key does not exist.
                -2 => Some(0),
                _ => None,
            });
        }
    }
    Ok(lengths)
}

/// The keys whose type is not string.
pub(super) fn of_other_types(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    keys: &[&String],
) -> Reply<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    // A server without STRLEN has no other types.
    let keys = if capabilities.lengths { keys } else { &[] };
    for chunk in keys.chunks(SMALL_COMMANDS) {
        let mut batch = Batch::default();
        chunk
            .iter()
            .for_each(|key| batch.push(cmd("STRLEN").arg(key)));
        for (key, reply) in chunk.iter().zip(conn.trip(&batch)?) {
            match accept(reply, None) {
                Err(ServerFault::NotABitmap(_)) => found.extend([(*key).clone()]),
                answer => drop(answer?),
            }
        }
    }
    Ok(found)
}

/// Renames a temporary key to its permanent name. Returns whether the name was free.
pub(super) fn rename_new(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    temporary: &str,
    name: &str,
) -> Reply<bool> {
    let mut batch = Batch::default();
    let lifetime = expiry(temporary, capabilities);
    if lifetime.is_some() {
        batch.push(cmd("PERSIST").arg(temporary));
    }
    let place = usize::from(lifetime.is_some());
    batch.push(cmd("RENAMENX").arg(temporary).arg(name));
    // If the name was taken, the key expires as before. Otherwise the command does nothing.
    lifetime.iter().for_each(|command| batch.push(command));
    let limit = conn.timeout();
    let replies = conn.transaction(&batch, capabilities.transactions, limit, &|_| {
        Some(name.to_owned())
    })?;
    Ok(natural("RENAMENX", &replies[place])? != 0)
}

impl Store for RedisStore {
    /// One transaction. After a timeout it may have been applied nevertheless; marking the same
    /// again is harmless.
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let mut texts: BTreeMap<&Key, String> = BTreeMap::new();
        let mut highest: BTreeMap<&Key, UserId> = BTreeMap::new();
        for mark in marks {
            texts
                .entry(&mark.key)
                .or_insert_with(|| mark.key.text(&self.prefix));
            let user = highest.entry(&mark.key).or_default();
            *user = mark.user.max(*user);
        }
        let keys: Vec<&String> = texts.values().collect();
        let mut batch = Batch::default();
        for mark in marks {
            if let Some(key) = texts.get(&mark.key) {
                batch.push(
                    cmd("SETBIT")
                        .arg(key)
                        .arg(mark.user)
                        .arg(u8::from(mark.value)),
                );
            }
        }
        // From now on, the bitmaps themselves show that ids are numeric.
        if self.settled.swap(false, Ordering::Relaxed) {
            batch.push(cmd("DEL").arg(id_keys::settled_key(&self.prefix)));
        }
        self.with(|conn, capabilities| {
            // A Redis transaction continues after a failed command. The only command that can fail
            // here is SETBIT on a key that is not a bitmap, so that is checked first.
            let lengths = lengths_of(conn, capabilities, &keys)?;
            // The first user with a large id can add half a gigabyte of zeros.
            let grows = |(user, length): (&UserId, Option<u64>)| {
                (u64::from(user / 8) + 1).saturating_sub(length.unwrap_or(0))
            };
            let limit = conn.timeout() + time_for(highest.values().zip(lengths).map(grows).sum());
            let name = |place: usize| {
                marks
                    .get(place)
                    .and_then(|mark| texts.get(&mark.key).cloned())
            };
            conn.transaction(&batch, capabilities.transactions, limit, &name)?;
            self.took_write();
            self.route.confirm(conn)
        })
    }

    /// Assumes the longest bitmap seen so far: reading the lengths would take another trip.
    fn cost(&self, plan: &Plan) -> Result<Cost> {
        let tiles = self.longest.load(Ordering::Relaxed);
        Ok(Cost::of(plan, |_| tiles))
    }

    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        if plan.roots().is_empty() {
            return Ok(Vec::new());
        }
        cost::check(|| self.cost(plan))?;
        self.evaluated(|conn, capabilities, scratch, refused| {
            let (script, keys) = self.prepare(conn, capabilities, plan)?;
            if !script.steps.is_empty() {
                let fetcher = Fetcher::new(
                    conn,
                    capabilities,
                    plan,
                    &keys,
                    &script.lengths,
                    local_eval::FIRST,
                );
                if let Some(found) = self.count_here(fetcher, capabilities, &script, refused)? {
                    return count_rest(conn, capabilities, scratch, plan, script, &keys, found);
                }
            }
            // Without steps nothing is written.
            let reading = capabilities.to_read();
            let capabilities = if script.steps.is_empty() {
                &reading
            } else {
                capabilities
            };
            let counts = Executor {
                conn,
                capabilities,
                scratch,
                keys: &keys,
            }
            .count(&script)?;
            Ok(script.roots.iter().map(|root| counts.of(*root)).collect())
        })
    }

    /// Fetches bitmaps from `after` on until there are enough users, unless the server has to
    /// compute; then it does so again for each page. A bitmap that changes meanwhile may be read
    /// partly in its old state.
    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        let mut plan = Plan::new();
        plan.count_set(set)?;
        cost::check(|| self.cost(&plan))?;
        self.evaluated(|conn, capabilities, scratch, refused| {
            let (script, keys) = self.prepare(conn, capabilities, &plan)?;
            match script.roots.first() {
                None | Some(Source::Missing) => Ok(Vec::new()),
                Some(Source::Key(node)) => Bitmap {
                    key: &keys[*node],
                    temporary: false,
                }
                .read(conn, capabilities, after, limit),
                Some(Source::Step(_)) if refused || self.fetches_members(capabilities) => {
                    let lengths = &script.lengths;
                    Fetcher::new(
                        conn,
                        capabilities,
                        &plan,
                        &keys,
                        lengths,
                        local_eval::FIRST_OF_LIST,
                    )?
                    .members(after, limit)
                }
                Some(Source::Step(node)) => {
                    Executor {
                        conn,
                        capabilities,
                        scratch,
                        keys: &keys,
                    }
                    .compute(&script)?;
                    Bitmap {
                        key: &scratch.key(*node),
                        temporary: true,
                    }
                    .read(conn, capabilities, after, limit)
                }
            }
        })
    }

    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.with(|conn, _| {
            let mut answers = Vec::with_capacity(keys.len());
            for chunk in keys.chunks(SMALL_COMMANDS) {
                let texts: Vec<String> = chunk.iter().map(|key| key.text(&self.prefix)).collect();
                let mut batch = Batch::default();
                texts
                    .iter()
                    .for_each(|key| batch.push(cmd("GETBIT").arg(key).arg(user)));
                for (key, reply) in texts.into_iter().zip(conn.trip(&batch)?) {
                    answers.push(natural("GETBIT", &accept(reply, Some(key))?)? != 0);
                }
            }
            Ok(answers)
        })
    }

    fn string_ids(&self) -> &dyn IdMap {
        self
    }

    fn delete(&self, keys: &[Key]) -> Result<u64> {
        let texts: BTreeSet<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
        if texts.is_empty() {
            return Ok(0);
        }
        // Fails on another program's key before anything is deleted.
        self.sizes(keys)?;
        let texts: Vec<String> = texts.into_iter().collect();
        // Must not be repeated: a second attempt would count only what the first one left.
        self.once_to_write(|conn, capabilities| scan::delete(conn, capabilities, &texts))
    }

    /// Computes the set into a temporary key and renames it in one step (RENAMENX). The set is of
    /// one moment unless it takes more than about 160 MB of bitmaps. Beyond that, some of the marks
    /// that arrive meanwhile may be in it, as with [`count`](Store::count).
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let mut plan = Plan::new();
        plan.count_set(set)?;
        cost::check(|| self.cost(&plan))?;
        let name = key.text(&self.prefix);
        // Must not be repeated: a second attempt would find the name taken by the first one.
        let run =
            |conn: &mut RedisConnection, capabilities: &Capabilities, scratch: &mut Scratch| {
                if lengths_of(conn, capabilities, &[&name])? != [Some(0)] {
                    return Ok(Saved::Taken);
                }
                let (mut script, keys) = self.prepare(conn, capabilities, &plan)?;
                script.copy_keys();
                let Some(Source::Step(node)) = script.roots.first().copied() else {
                    return Ok(Saved::Nobody);
                };
                let made = Executor {
                    conn,
                    capabilities,
                    scratch,
                    keys: &keys,
                }
                .compute_and_count(&script)?;
                if made == 0 {
                    return Ok(Saved::Nobody);
                }
                rename_new(conn, capabilities, &scratch.key(node), &name).map(|renamed| {
                    if renamed {
                        Saved::People(made)
                    } else {
                        Saved::Taken
                    }
                })
            };
        self.once_to_write(|conn, capabilities| self.cleaned(conn, capabilities, run))
    }

    fn describe(&self) -> Result<StoreInfo> {
        self.with(|conn, capabilities| {
            let mut batch = Batch::of([&*cmd("INFO").arg("server"), cmd("INFO").arg("memory")]);
            if capabilities.hashes {
                batch.push(&id_keys::asking(&self.prefix));
            }
            let replies = conn.trip(&batch)?;
            let string_ids = matches!(replies.get(2), Some(Value::BulkString(_)));
            let info: String = replies.iter().take(2).map(text).collect::<Vec<_>>().join("\n");
            let field = |name: &str| {
                let mut fields = info.lines().filter_map(|line| line.trim_end().split_once(':'));
                fields.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
            };
            // Valkey also reports a redis_version, for old clients.
            let kind = match (field("valkey_version"), field("redis_version")) {
                (Some(version), _) => format!("Valkey {version}"),
                (None, Some(version)) => format!("Redis {version}"),
                (None, None) => "Redis".to_owned(),
            };
            let mut notes = Vec::new();
            if let Some(reason) = &capabilities.refusal {
                notes.push(format!("{} ({reason})", self.read_only_note()));
            }
            if !capabilities.transactions {
                notes.push("this server has no transactions: an interrupted batch may be recorded in part".into());
            }
            let limited = field("maxmemory").is_some_and(|bytes| bytes != "0");
            match field("maxmemory_policy") {
                Some(policy) if limited && policy.starts_with("allkeys") => notes.push(format!(
                    "this Redis evicts bitmaps when its memory is full (maxmemory-policy {policy}); noeviction keeps them"
                )),
                _ => {}
            }
            // A server that only refuses temporary keys may still accept marks.
            let refusal = capabilities.refusal.clone().filter(|_| capabilities.takes_nothing);
            let (location, prefix) = (self.route.location().to_owned(), self.prefix.clone());
            Ok(StoreInfo { kind, location, prefix, created: false, notes, string_ids, refusal })
        })
    }
}

impl KeyListing for RedisStore {
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        let start = format!("{}{starting_with}", self.prefix);
        self.with(|conn, capabilities| {
            let found = scan::keys(conn, capabilities, &start)?;
            self.left_out
                .parse(&self.prefix, starting_with, &found, as_is, |texts| {
                    of_other_types(conn, capabilities, texts)
                })
        })
    }

    fn kept_in(&self) -> Result<Option<String>> {
        self.zone()
    }

    fn keep_in(&self, zone: &str) -> Result<String> {
        self.remember_zone(zone)
    }

    fn forget_zone(&self) -> Result<()> {
        self.delete_zone()
    }

    fn lists(&self) -> Result<Vec<String>> {
        self.remembered_lists()
    }

    fn note_list(&self, name: &str, is_saved: bool) -> Result<()> {
        self.remember_list(name, is_saved)
    }

    fn unparsed_keys(&self) -> UnparsedKeys {
        self.left_out.get()
    }

    fn other_prefixes(&self) -> Result<OtherPrefixes> {
        self.with(|conn, capabilities| {
            let (found, complete) = scan::some(conn, capabilities)?;
            Ok(OtherPrefixes::of(&self.prefix, &found, complete, prefix_of))
        })
    }

    fn sizes(&self, keys: &[Key]) -> Result<Vec<Option<u64>>> {
        let texts: Vec<String> = keys.iter().map(|key| key.text(&self.prefix)).collect();
        let texts: Vec<&String> = texts.iter().collect();
        self.with(|conn, capabilities| lengths_of(conn, capabilities, &texts))
    }
}

impl ChangeFeed for RedisStore {
    /// Does not recount bitmaps that Redis has not reported as changed; see `client_tracking`.
    fn states(&self, keys: &[Key]) -> Result<Option<Vec<BitmapState>>> {
        self.watched(&plan_of(keys))
            .map_err(|fault| self.error(fault))
    }
}

impl Maintenance for RedisStore {
    /// Deletes bitmapist's temporary keys, which bitmapist never deletes, and ours without an
    /// expiry. Ours with an expiry are left: they are in use or expire within a minute.
    fn sweep(&self) -> Result<u64> {
        self.once_to_write(|conn, capabilities| {
            let leftovers = scan::leftovers(conn, capabilities, &self.prefix)?;
            scan::delete(conn, capabilities, &leftovers)
        })
    }
}

/// The text of a reply; empty for an error, because a server that refuses INFO is still usable.
pub(super) fn text(reply: &Value) -> String {
    match reply {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}
