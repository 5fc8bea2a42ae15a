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

/// How many commands that take no time are sent in one trip.
pub(super) const SMALL_COMMANDS: usize = 4096;

/// How long it is taken for granted that a server takes no writes: a replica may be promoted, a
/// user be given permission.
pub(super) const RECHECK: Duration = Duration::from_secs(5);

/// Under [`RedisEval::Auto`] bitmaps are fetched when the server would have to go through so many
/// times the bytes that it takes to fetch them. A server goes through some 8 GB/s. Fetching and
/// counting come to about 1 GB/s over a socket of the same machine (NEAR), and to what the link
/// brings otherwise, taken for 1 Gbit/s (FAR): where it is slower `auto` may fetch too much, where
/// it is faster too little, and is at most as slow as it was. `benches/redis_eval.rs` measures; of
/// a 31 × 13 table over 10 M users sign-ups are fetched whatever the link (0.9 MB for 1.2 GB of
/// work), and those active on each of 31 days only nearby (39 MB for 1.1 GB).
pub(super) const FAR: u64 = 64;

pub(super) const NEAR: u64 = 8;

/// Bitmaps in Redis ≥ 5, Valkey or bitmapist-server, bit for bit as bitmapist keeps them.
///
/// * Opening it connects to nothing. Each request finds Redis there or fails within the time-out,
///   and the next one tries anew.
/// * [`count`](Store::count) carries out a plan in chunks, between which Redis serves others. The
///   counts of one chunk are of one moment; marks that come in meanwhile may be in the counts of
///   later chunks and not in those of earlier.
/// * Unions and intersections are computed into temporary keys, `{prefix}bitop_cohortist:…`. They
///   are deleted before a request returns, whether it succeeds or not, and outside a transaction
///   none exists without a time to live: when this process is killed they are gone within a minute.
///   (On servers that have no transactions this holds but for a moment; `sweep` is
///   for that.)
/// * Where the server takes no writes, as a replica, or none of this user's, and otherwise where
///   that is cheaper, bitmaps are fetched and counted here ([`RedisEval`]); which, is found out and
///   kept up to date. Saving always computes on the server.
/// * A password in the URL appears in no error and no description.
pub struct RedisStore {
    pub(super) route: Route,
    pub(super) prefix: Prefix,
    pub(super) eval: RedisEval,
    /// Learned at first use and remembered; when, matters where no writes are taken.
    pub(super) learned: Mutex<Option<(Capabilities, Instant)>>,
    /// How many tiles the longest bitmap has that was asked about so far.
    pub(super) longest: AtomicU64,
    pub(super) watch: Box<ClientTracking>,
    /// It was settled that users are numbers, and nothing was marked since.
    pub(super) settled: AtomicBool,
    /// Shared by the shards of a cluster.
    pub(super) left_out: Arc<LeftOut>,
}

impl RedisStore {
    /// A store at `redis://[user:password@]host[:6379][/database]`, `rediss://…` (TLS),
    /// `valkey://…`, `valkeys://…`, `redis+unix:///path[?db=1&user=…&pass=…]` or `unix://…`.
    ///
    /// # Errors
    /// [`StoreError::Url`] when the text is no such URL. That Redis is away is no error here.
    pub fn new(url: &str, options: &Options) -> Result<Self> {
        let route = Route::Server(Pool::new(
            Address::parse(url)?,
            options.connections,
            options.timeout,
        ));
        let (prefix, eval) = (options.prefix.clone(), options.redis_eval);
        Ok(RedisStore::at(route, prefix, eval, None))
    }

    /// A store behind a route, of whose server this is known already.
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

    /// Runs a request; once more when its connection turns out to be broken, as after a restart of
    /// Redis between the PING and the request. So requests must come to the same if they are
    /// carried out twice.
    pub(super) fn with<T>(
        &self,
        run: impl Fn(&mut RedisConnection, &Capabilities) -> Reply<T>,
    ) -> Result<T> {
        self.twice(RECHECK, run)
    }

    /// [`with`](Self::with) for what writes more than marks: what the server lets us do is to be known as of now, as
    /// temporary keys are given a lifetime only where that is allowed.
    pub(super) fn with_to_write<T>(
        &self,
        run: impl Fn(&mut RedisConnection, &Capabilities) -> Reply<T>,
    ) -> Result<T> {
        self.twice(Duration::ZERO, run)
    }

    /// The same for what must not be carried out twice.
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
                tracing::debug!(location = self.route.location(), reason, "trying once more");
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

    /// What the server knows and lets us do. That it takes no writes is believed for so long.
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
        // Once, and not by each of the requests that find out at the same time.
        match (before, &new.refusal) {
            (None, Some(reason)) => {
                tracing::info!(location, "{} ({reason})", self.read_only_note())
            }
            (Some(_), None) => tracing::info!(location, "this Redis takes writes again"),
            _ => {}
        }
        *learned = Some((new.clone(), Instant::now()));
        Ok(new)
    }

    /// Makes the next request check again what a server accepts that refused writes and now took
    /// one.
    fn took_write(&self) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let was_refusing = learned.take_if(|(known, _)| known.refusal.is_some());
        if was_refusing.is_some() {
            tracing::info!(
                location = self.route.location(),
                "this Redis takes writes again"
            );
        }
    }

    /// A server that refused a write is to be asked anew what it takes.
    pub(super) fn unlearn<T>(&self, result: &Reply<T>) {
        if let Err(ServerFault::Unwritable(_)) = result {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            learned.take_if(|(known, _)| known.refusal.is_none());
        }
    }

    pub(super) fn read_only_note(&self) -> &'static str {
        match self.eval {
            RedisEval::Server => {
                "this Redis takes no writes from here, and --redis-eval server needs them: no intersections can be counted"
            }
            _ => {
                "this Redis takes no writes from here: bitmaps are fetched and counted here, and nothing can be marked or saved"
            }
        }
    }

    /// Runs a request that may make temporary keys, and deletes them whatever happens. When the
    /// server turns out to take no writes any more, it is run once more and told so.
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
                    "computing here instead"
                );
                self.unlearn(&Err::<(), _>(ServerFault::Unwritable(reason)));
                refused.set(true);
                let capabilities = self.capabilities(conn, RECHECK)?;
                run(conn, &capabilities)
            }
            Err(ServerFault::Unwritable(reason)) if self.eval == RedisEval::Server => {
                Err(ServerFault::Unwritable(format!(
                    "{reason}; --redis-eval auto fetches bitmaps and counts them here"
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

    /// Deletes as well as can be; what is not reached goes by its time to live.
    pub(super) fn clean_up<T>(
        &self,
        conn: &mut RedisConnection,
        deletion: &Batch,
        result: &Reply<T>,
    ) {
        // Limited, because the caller has already waited for the answer.
        let limit = Duration::from_millis(300).min(conn.timeout());
        if conn.is_broken() {
            // A server that did not answer will not now.
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
                    let hint = "this is a node of a cluster: name it with redis-cluster://";
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

    /// Asks for the sizes of a plan's bitmaps and resolves it. Returns the text of the key at each
    /// node as well.
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

    /// Counts the roots of a plan here, if that is to be; `None` stands for the server's turn.
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
        // What the server does in no time is not worth another trip to find out.
        if choice && (worth < bitmap::TILE_BYTES || !fetcher.is_within(worth)?) {
            return Ok(None);
        }
        fetcher.count().map(Some)
    }

    /// Whether lists of people are made here. They are read a page at a time, and the server would
    /// have to compute the whole set for each.
    pub(super) fn fetches_members(&self, capabilities: &Capabilities) -> bool {
        match self.eval {
            RedisEval::Fetch => true,
            RedisEval::Server => false,
            RedisEval::Auto => capabilities.refusal.is_some() || capabilities.can_fetch(),
        }
    }
}

/// Has the server count the roots that were not fetched whole. After the others, so that marks that
/// come in between make the size of a cohort greater and never smaller than what is left of it.
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
    let counted = |root: usize| counts.get(&Source::Key(root)).copied().unwrap_or(0);
    Ok(plan
        .roots()
        .iter()
        .zip(found)
        .map(|(root, count)| count.unwrap_or_else(|| counted(root.index())))
        .collect())
}

pub(super) type Measures = (Vec<String>, Vec<Option<u64>>);

/// For each key its length in bytes: 0 when there is no such key, `None` when the server cannot
/// tell.
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
                length if capabilities.lengths => Some(u64::try_from(length).unwrap_or(0)),
                // TTL's word for "no such key".
                -2 => Some(0),
                _ => None,
            });
        }
    }
    Ok(lengths)
}

/// The keys that are of another type than bitmaps.
pub(super) fn of_other_types(
    conn: &mut RedisConnection,
    capabilities: &Capabilities,
    keys: &[&String],
) -> Reply<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    // A server that cannot tell a length knows no other type.
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

/// Gives a temporary key a name for good; says whether the name was free.
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
    // Where the name was taken, the key is temporary as before; otherwise there is none.
    lifetime.iter().for_each(|command| batch.push(command));
    let limit = conn.timeout();
    let replies = conn.transaction(&batch, capabilities.transactions, limit, &|_| {
        Some(name.to_owned())
    })?;
    Ok(natural("RENAMENX", replies.get(place).unwrap_or(&Value::Nil))? != 0)
}

impl Store for RedisStore {
    /// One transaction. When the time is up before Redis answered, it may have been carried out
    /// none the less; marking the same again does no harm.
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
        // The bitmaps themselves tell from now on that users are numbers.
        if self.settled.swap(false, Ordering::Relaxed) {
            batch.push(cmd("DEL").arg(id_keys::settled_key(&self.prefix)));
        }
        self.with(|conn, capabilities| {
            // Redis' transactions go on after a command that failed. The only one that can is
            // SETBIT of a key that is no bitmap, so that is found out before.
            let lengths = lengths_of(conn, capabilities, &keys)?;
            // Up to half a gigabyte of zeros for the first user with a great id.
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

    /// By the longest bitmap that was asked about so far: a look at each would be a trip of its
    /// own.
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
            // Where nothing is computed nothing is written.
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
            // Only what is missing has no count.
            Ok(script
                .roots
                .iter()
                .map(|root| counts.get(root).copied().unwrap_or(0))
                .collect())
        })
    }

    /// Bitmaps are fetched from `after` on until there are enough users, unless the server has to
    /// compute: then it does so anew for each page. A bitmap that changes meanwhile is read partly
    /// as it was.
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
        // Another program's key is an error before anything is deleted.
        self.sizes(keys)?;
        let texts: Vec<String> = texts.into_iter().collect();
        // Not twice: the second time would count only what the first left.
        self.once_to_write(|conn, capabilities| scan::delete(conn, capabilities, &texts))
    }

    /// The set is computed into a temporary key, which is then given its name in one step
    /// (RENAMENX). It is of one moment unless it takes more than some 160 MB of bitmaps; then, as
    /// with [`count`](Store::count), marks that come in meanwhile may be in it in part.
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        let mut plan = Plan::new();
        plan.count_set(set)?;
        cost::check(|| self.cost(&plan))?;
        let name = key.text(&self.prefix);
        // Not twice: the second time would find taken what the first has made.
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
            // Valkey gives a redis_version for old clients' sake.
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
                notes.push("this server has no transactions: a batch that is interrupted may be recorded in part".into());
            }
            let limited = field("maxmemory").is_some_and(|bytes| bytes != "0");
            match field("maxmemory_policy") {
                Some(policy) if limited && policy.starts_with("allkeys") => notes.push(format!(
                    "this Redis throws bitmaps away when its memory is full (maxmemory-policy {policy}); noeviction would keep them"
                )),
                _ => {}
            }
            // Without temporary keys alone marks may still be taken.
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
    /// Bitmaps that Redis has not reported as changed are not counted again, see `client_tracking`.
    fn states(&self, keys: &[Key]) -> Result<Option<Vec<BitmapState>>> {
        self.watched(&plan_of(keys))
            .map_err(|fault| self.error(fault))
    }
}

impl Maintenance for RedisStore {
    /// Deletes bitmapist's temporary keys, which it never deletes itself, and those of ours that
    /// have no time to live. Those of ours that have one are left: they are in use, or go by
    /// themselves within a minute.
    fn sweep(&self) -> Result<u64> {
        self.once_to_write(|conn, capabilities| {
            let leftovers = scan::leftovers(conn, capabilities, &self.prefix)?;
            scan::delete(conn, capabilities, &leftovers)
        })
    }
}

/// A reply's text; nothing of errors, as a server that gives no information is still a store.
pub(super) fn text(reply: &Value) -> String {
    match reply {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        _ => String::new(),
    }
}
