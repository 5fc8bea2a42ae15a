//! The commands: their names, arguments, and effects on bitmaps. Messages and the order of checks are
//! those of Redis 7.0, so that clients see no difference.

use std::sync::Arc;

use super::access::{
    Access, CommandError, CommandResult, integer, key, keys, saturating_i64, syntax_error,
};
use super::bits::{bit_count, bit_op, bit_pos, get_bit, range, set_bit};
use super::glob;
use super::reply::Reply;
use super::request;
use crate::bitmap::{TILE_BYTES, Tile};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::embedded::{ReadTxn, WriteTxn};

/// The version of Redis that the commands imitate.
pub(super) const VERSION: &str = "7.0.15";

/// The number of bytes of an argument that an error repeats.
const LONGEST_QUOTE: usize = 128;

/// How a command is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// SETBIT, several of which are executed together.
    SetBit,
    /// Writes bitmaps.
    Write,
    /// Reads bitmaps.
    Read,
    /// Needs no bitmaps.
    Plain,
    /// FLUSHDB and FLUSHALL, which the settings may forbid.
    Flush,
    /// Executed by the connection, like the following ones.
    Auth,
    Hello,
    Client,
    Config,
    Info,
    Multi,
    Exec,
    Discard,
    Quit,
}

/// A command.
pub(super) struct Spec {
    name: &'static str,
    /// The number of arguments with the name, or the negated minimum.
    arity: i32,
    pub kind: Kind,
    /// Whether it can be used before authentication.
    pub before_auth: bool,
    keys: Keys,
    pub run: fn(&[&[u8]], &mut Access<'_, '_>) -> CommandResult,
}

/// Which arguments of a command are keys. The command itself has index 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    None,
    /// The first argument.
    One,
    /// The first two arguments.
    Two,
    /// All arguments from this index on.
    From(u8),
    /// Every other argument, from the first on. Values are between them.
    Pairs,
}

impl Keys {
    /// The first and the last index and the step, as COMMAND reports them.
    fn positions(self) -> [i64; 3] {
        match self {
            Keys::None => [0, 0, 0],
            Keys::One => [1, 1, 1],
            Keys::Two => [1, 2, 1],
            Keys::From(first) => [first.into(), -1, 1],
            Keys::Pairs => [1, -1, 2],
        }
    }
}

impl Spec {
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it computes new bitmaps from whole ones, which may take long.
    pub fn combines(&self) -> bool {
        self.name == "bitop"
    }

    /// Whether the keys it works on are among its arguments.
    pub fn has_keys(&self) -> bool {
        self.keys != Keys::None
    }

    /// The keys among its arguments, whose number must have been checked. Arguments that cannot be
    /// names of keys are left out.
    pub fn keys<'a>(&self, arguments: &[&'a [u8]]) -> Vec<&'a str> {
        let (keys, step) = match self.keys {
            Keys::None => (&[][..], 1),
            Keys::One => (&arguments[1..2], 1),
            Keys::Two => (&arguments[1..3], 1),
            Keys::From(first) => (&arguments[first.into()..], 1),
            Keys::Pairs => (&arguments[1..], 2),
        };
        let keys = keys.iter().step_by(step);
        keys.filter_map(|bytes| key(bytes).ok()).collect()
    }
}

const fn spec(
    name: &'static str,
    arity: i32,
    kind: Kind,
    keys: Keys,
    run: fn(&[&[u8]], &mut Access<'_, '_>) -> CommandResult,
) -> Spec {
    let before_auth = matches!(kind, Kind::Auth | Kind::Hello | Kind::Quit);
    Spec {
        name,
        arity,
        kind,
        before_auth,
        keys,
        run,
    }
}

static COMMANDS: &[Spec] = &[
    spec("setbit", 4, Kind::SetBit, Keys::One, set_bit),
    spec("getbit", 3, Kind::Read, Keys::One, get_bit),
    spec("bitcount", -2, Kind::Read, Keys::One, bit_count),
    spec("bitpos", -3, Kind::Read, Keys::One, bit_pos),
    spec("bitop", -4, Kind::Write, Keys::From(2), bit_op),
    spec("get", 2, Kind::Read, Keys::One, get),
    spec("getrange", 4, Kind::Read, Keys::One, get_range),
    spec("set", -3, Kind::Write, Keys::One, set),
    spec("setnx", 3, Kind::Write, Keys::One, set_if_new),
    spec("setex", 4, Kind::Write, Keys::One, |a, access| {
        set_expiring(a, access, "setex", SECOND)
    }),
    spec("psetex", 4, Kind::Write, Keys::One, |a, access| {
        set_expiring(a, access, "psetex", MILLISECOND)
    }),
    spec("getex", -2, Kind::Write, Keys::One, get_expiring),
    spec("mget", -2, Kind::Read, Keys::From(1), get_many),
    spec("mset", -3, Kind::Write, Keys::Pairs, set_many),
    spec("strlen", 2, Kind::Read, Keys::One, strlen),
    spec("exists", -2, Kind::Read, Keys::From(1), exists),
    spec("touch", -2, Kind::Read, Keys::From(1), exists),
    spec("del", -2, Kind::Write, Keys::From(1), delete),
    spec("unlink", -2, Kind::Write, Keys::From(1), delete),
    spec("type", 2, Kind::Read, Keys::One, type_of),
    spec("keys", 2, Kind::Read, Keys::None, list_keys),
    spec("scan", -2, Kind::Read, Keys::None, scan),
    spec("dbsize", 1, Kind::Read, Keys::None, dbsize),
    spec("expire", -3, Kind::Write, Keys::One, |a, access| {
        expire(a, access, "expire", IN_SECONDS)
    }),
    spec("pexpire", -3, Kind::Write, Keys::One, |a, access| {
        expire(a, access, "pexpire", IN_MILLISECONDS)
    }),
    spec("expireat", -3, Kind::Write, Keys::One, |a, access| {
        expire(a, access, "expireat", AT_SECOND)
    }),
    spec("pexpireat", -3, Kind::Write, Keys::One, |a, access| {
        expire(a, access, "pexpireat", AT_MILLISECOND)
    }),
    spec("ttl", 2, Kind::Read, Keys::One, |a, access| {
        expiry(a, access, IN_SECONDS)
    }),
    spec("pttl", 2, Kind::Read, Keys::One, |a, access| {
        expiry(a, access, IN_MILLISECONDS)
    }),
    spec("expiretime", 2, Kind::Read, Keys::One, |a, access| {
        expiry(a, access, AT_SECOND)
    }),
    spec("pexpiretime", 2, Kind::Read, Keys::One, |a, access| {
        expiry(a, access, AT_MILLISECOND)
    }),
    spec("persist", 2, Kind::Write, Keys::One, persist),
    spec("rename", 3, Kind::Write, Keys::Two, |a, access| {
        rename(a, access, false)
    }),
    spec("renamenx", 3, Kind::Write, Keys::Two, |a, access| {
        rename(a, access, true)
    }),
    spec("flushdb", -1, Kind::Flush, Keys::None, flush),
    spec("flushall", -1, Kind::Flush, Keys::None, flush),
    spec("ping", -1, Kind::Plain, Keys::None, ping),
    spec("echo", 2, Kind::Plain, Keys::None, |a, _| {
        Ok(Reply::bulk(a[1]))
    }),
    spec("select", 2, Kind::Plain, Keys::None, select),
    spec("command", -1, Kind::Plain, Keys::None, command),
    spec("info", -1, Kind::Info, Keys::None, by_connection),
    spec("auth", -2, Kind::Auth, Keys::None, by_connection),
    spec("hello", -1, Kind::Hello, Keys::None, by_connection),
    spec("client", -2, Kind::Client, Keys::None, by_connection),
    spec("config", -2, Kind::Config, Keys::None, by_connection),
    spec("multi", 1, Kind::Multi, Keys::None, by_connection),
    spec("exec", 1, Kind::Exec, Keys::None, by_connection),
    spec("discard", 1, Kind::Discard, Keys::None, by_connection),
    spec("quit", -1, Kind::Quit, Keys::None, by_connection),
];

/// The units of times, in milliseconds.
const SECOND: i64 = 1000;
const MILLISECOND: i64 = 1;

const IN_SECONDS: ExpiryUnit = ExpiryUnit::new(SECOND, false);
const IN_MILLISECONDS: ExpiryUnit = ExpiryUnit::new(MILLISECOND, false);
const AT_SECOND: ExpiryUnit = ExpiryUnit::new(SECOND, true);
const AT_MILLISECOND: ExpiryUnit = ExpiryUnit::new(MILLISECOND, true);

/// The function of commands that the connection executes itself.
fn by_connection(_: &[&[u8]], _: &mut Access<'_, '_>) -> CommandResult {
    Ok(Reply::OK)
}

/// Looks up a command by its name.
pub(super) fn by_name(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS
        .iter()
        .find(|spec| name.eq_ignore_ascii_case(spec.name.as_bytes()))
}

/// Looks up the command of a request and checks the number of its arguments.
pub(super) fn find(arguments: &[&[u8]]) -> Result<&'static Spec, Reply> {
    let Some(spec) = by_name(arguments[0]) else {
        return Err(unknown_command(arguments));
    };
    if !is_arity(spec.arity, arguments.len()) {
        return Err(Reply::error(format!(
            "wrong number of arguments for '{}' command",
            spec.name
        )));
    }
    // An unknown subcommand must be refused before anything is executed.
    let subcommands = SUBCOMMANDS
        .iter()
        .find(|(command, _)| *command == spec.name);
    if let (Some((command, subcommands)), Some(name)) = (subcommands, arguments.get(1)) {
        let known = subcommands
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        let Some((name, arity)) = known else {
            return Err(unknown_subcommand(command, name));
        };
        if !is_arity(*arity, arguments.len()) {
            return Err(Reply::error(format!(
                "wrong number of arguments for '{command}|{name}' command"
            )));
        }
    }
    Ok(spec)
}

fn unknown_command(arguments: &[&[u8]]) -> Reply {
    let name = quote(arguments[0], LONGEST_QUOTE);
    let mut rest = String::new();
    for argument in &arguments[1..] {
        if rest.len() >= LONGEST_QUOTE {
            break;
        }
        rest += &format!("'{}' ", quote(argument, LONGEST_QUOTE - rest.len()));
    }
    Reply::error(format!(
        "unknown command '{name}', with args beginning with: {rest}"
    ))
}

fn unknown_subcommand(command: &str, name: &[u8]) -> Reply {
    let name = quote(name, LONGEST_QUOTE);
    let command = command.to_uppercase();
    Reply::error(format!("unknown subcommand '{name}'. Try {command} HELP."))
}

/// The first bytes of an argument.
fn quote(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned()
}

/// A subcommand with its arity, as in [`Spec`].
type Subcommand = (&'static str, i32);

const SUBCOMMANDS: [(&str, &[Subcommand]); 3] = [
    (
        "client",
        &[
            ("id", 2),
            ("getname", 2),
            ("setname", 3),
            ("setinfo", 4),
            ("info", 2),
            ("list", -2),
        ],
    ),
    ("config", &[("get", -3)]),
    (
        "command",
        &[("count", 2), ("list", -2), ("docs", -2), ("info", -2)],
    ),
];

fn is_arity(arity: i32, arguments: usize) -> bool {
    let arguments = i32::try_from(arguments).expect("a request has at most 2²⁰ arguments");
    if arity < 0 {
        arguments >= -arity
    } else {
        arguments == arity
    }
}

fn whole(txn: ReadTxn<'_>, name: &str) -> CommandResult {
    Ok(match txn.snapshot(name)? {
        None => Reply::Null,
        Some(bitmap) if bitmap.len == 0 => Reply::bulk(""),
        Some(bitmap) => {
            let last = bitmap.len - 1;
            Reply::Bitmap(bitmap, 0, last)
        }
    })
}

fn get(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    whole(access.read()?, key(arguments[1])?)
}

fn get_range(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let start = integer(arguments[2])?;
    let end = integer(arguments[3])?;
    let txn = access.read()?;
    let name = key(arguments[1])?;
    let is_reversed = start < 0 && end < 0 && start > end;
    let len = saturating_i64(txn.len(name)?);
    let Some((first, last)) = range(start, end, len).filter(|_| !is_reversed) else {
        return Ok(Reply::bulk(""));
    };
    let first = first.unsigned_abs();
    let last = last.unsigned_abs();
    Ok(Reply::Bitmap(txn.part(name, first, last)?, first, last))
}

fn strlen(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let len = access.read()?.len(key(arguments[1])?)?;
    Ok(Reply::count(len))
}

fn type_of(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let exists = access.read()?.exists(key(arguments[1])?)?;
    Ok(Reply::Simple(if exists { "string" } else { "none" }))
}

fn dbsize(_: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    Ok(Reply::count(access.read()?.keys()?.len() as u64))
}

/// The options of SET.
#[derive(Default)]
struct SetOptions<'a> {
    only_new: bool,
    only_existing: bool,
    return_old: bool,
    keep_ttl: bool,
    expiry: Option<Expiry<'a>>,
}

/// A time of expiry with its unit.
type Expiry<'a> = (&'a [u8], ExpiryUnit);

/// The unit of a time of expiry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct ExpiryUnit {
    /// The length in milliseconds.
    unit: i64,
    /// Whether the time counts from 1970 instead of now.
    is_absolute: bool,
}

impl ExpiryUnit {
    const fn new(unit: i64, is_absolute: bool) -> Self {
        ExpiryUnit { unit, is_absolute }
    }

    /// The unit that an option of SET and GETEX names, in upper case.
    fn parse(option: &[u8]) -> Option<Self> {
        match option {
            b"EX" => Some(IN_SECONDS),
            b"PX" => Some(IN_MILLISECONDS),
            b"EXAT" => Some(AT_SECOND),
            b"PXAT" => Some(AT_MILLISECOND),
            _ => None,
        }
    }

    /// Reads an option with its time. Returns the arguments after it. The same unit may be given
    /// again, and then the last time counts.
    fn option<'a, 'b>(
        option: &[u8],
        rest: &'b [&'a [u8]],
        before: Option<Expiry<'a>>,
    ) -> Result<(Expiry<'a>, &'b [&'a [u8]]), CommandError> {
        let unit = ExpiryUnit::parse(option).ok_or_else(syntax_error)?;
        match rest {
            [time, rest @ ..] if before.is_none_or(|(_, before)| before == unit) => {
                Ok(((time, unit), rest))
            }
            _ => Err(syntax_error()),
        }
    }

    /// The time in milliseconds since 1970. It may be over.
    fn moment(self, time: i64, command: &str) -> Result<i64, CommandError> {
        let start = if self.is_absolute { 0 } else { now() };
        time.checked_mul(self.unit)
            .and_then(|millis| millis.checked_add(start))
            .ok_or_else(|| invalid_time(command))
    }

    /// Like [`moment`](Self::moment), for commands that refuse times of 0 and below.
    fn positive_moment(self, time: &[u8], command: &str) -> Result<u64, CommandError> {
        match integer(time)? {
            ..=0 => Err(invalid_time(command)),
            time => Ok(self.moment(time, command)?.unsigned_abs()),
        }
    }
}

fn invalid_time(command: &str) -> CommandError {
    Reply::error(format!("invalid expire time in '{command}' command")).into()
}

impl<'a> SetOptions<'a> {
    fn parse(mut arguments: &[&'a [u8]]) -> Result<Self, CommandError> {
        let mut options = SetOptions::default();
        while let [option, rest @ ..] = arguments {
            let option = option.to_ascii_uppercase();
            arguments = rest;
            match option.as_slice() {
                b"NX" if !options.only_existing => options.only_new = true,
                b"XX" if !options.only_new => options.only_existing = true,
                b"GET" => options.return_old = true,
                b"KEEPTTL" if options.expiry.is_none() => options.keep_ttl = true,
                _ if options.keep_ttl => return Err(syntax_error()),
                option => {
                    let (expiry, rest) = ExpiryUnit::option(option, rest, options.expiry)?;
                    options.expiry = Some(expiry);
                    arguments = rest;
                }
            }
        }
        Ok(options)
    }
}

fn set(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let options = SetOptions::parse(&arguments[3..])?;
    let expires_at = options
        .expiry
        .map(|(time, unit)| unit.positive_moment(time, "set"))
        .transpose()?;
    let name = key(arguments[1])?;
    let txn = access.write()?;
    let old = if options.return_old {
        Some(whole(txn.read(), name)?)
    } else {
        None
    };
    let exists = txn.read().exists(name)?;
    if (options.only_new && exists) || (options.only_existing && !exists) {
        return Ok(old.unwrap_or(Reply::Null));
    }
    let before = txn.read().expires_at(name);
    put(txn, name, arguments[2])?;
    if let Some(expires_at) = expires_at {
        txn.set_expires_at(name, Some(expires_at))?;
    } else if options.keep_ttl {
        txn.set_expires_at(name, before)?;
    }
    Ok(old.unwrap_or(Reply::OK))
}

/// Stores a value, which never expires.
fn put(txn: &mut WriteTxn<'_>, name: &str, value: &[u8]) -> Result<(), StoreError> {
    let tile_bytes = usize::try_from(TILE_BYTES).expect("a tile has 8 KiB");
    let tiles = (0..)
        .zip(value.chunks(tile_bytes))
        .map(|(number, bytes)| (number, Arc::new(Tile::of_bytes(bytes))))
        .filter(|(_, tile)| !tile.is_empty())
        .collect();
    txn.put(name, value.len() as u64, tiles)
}

fn set_if_new(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let name = key(arguments[1])?;
    let txn = access.write()?;
    let is_new = !txn.read().exists(name)?;
    if is_new {
        put(txn, name, arguments[2])?;
    }
    Ok(Reply::from(is_new))
}

fn set_expiring(
    arguments: &[&[u8]],
    access: &mut Access<'_, '_>,
    command: &str,
    unit: i64,
) -> CommandResult {
    let expires_at = ExpiryUnit::new(unit, false).positive_moment(arguments[2], command)?;
    let name = key(arguments[1])?;
    let txn = access.write()?;
    put(txn, name, arguments[3])?;
    txn.set_expires_at(name, Some(expires_at))?;
    Ok(Reply::OK)
}

fn set_many(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let (pairs, rest) = arguments[1..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Reply::error("wrong number of arguments for 'mset' command").into());
    }
    let txn = access.write()?;
    for [name, _] in pairs {
        key(name)?;
    }
    for [name, value] in pairs {
        put(txn, key(name)?, value)?;
    }
    Ok(Reply::OK)
}

fn get_many(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let txn = access.read()?;
    let values = arguments[1..].iter().map(|name| whole(txn, key(name)?));
    Ok(Reply::Array(values.collect::<Result<_, _>>()?))
}

/// GETEX: returns a value and changes when it expires.
fn get_expiring(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let mut persists = false;
    let mut expiry = None;
    let mut options = &arguments[2..];
    while let [option, rest @ ..] = options {
        let option = option.to_ascii_uppercase();
        options = rest;
        match option.as_slice() {
            b"PERSIST" if expiry.is_none() => persists = true,
            _ if persists => return Err(syntax_error()),
            option => {
                let (given, rest) = ExpiryUnit::option(option, rest, expiry)?;
                expiry = Some(given);
                options = rest;
            }
        }
    }
    let name = key(arguments[1])?;
    let txn = access.write()?;
    let value = whole(txn.read(), name)?;
    if matches!(value, Reply::Null) {
        return Ok(value);
    }
    match expiry {
        Some((time, unit)) => expire_at(txn, name, unit.positive_moment(time, "getex")?)?,
        None if persists => drop(txn.set_expires_at(name, None)?),
        None => {}
    }
    Ok(value)
}

/// Makes a bitmap that exists expire at this time, in milliseconds since 1970.
fn expire_at(txn: &mut WriteTxn<'_>, name: &str, expires_at: u64) -> Result<(), StoreError> {
    if expires_at <= now().unsigned_abs() {
        txn.delete(&[name.to_owned()])?;
    } else {
        txn.set_expires_at(name, Some(expires_at))?;
    }
    Ok(())
}

fn exists(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let txn = access.read()?;
    let mut count = 0;
    for name in &arguments[1..] {
        count += i64::from(txn.exists(key(name)?)?);
    }
    Ok(Reply::Number(count))
}

fn delete(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let keys = keys(&arguments[1..])?;
    Ok(Reply::count(access.write()?.delete(&keys)?))
}

fn matching<'t>(names: impl IntoIterator<Item = &'t str>, pattern: Option<&[u8]>) -> Reply {
    let matching = names
        .into_iter()
        .filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name.as_bytes())));
    Reply::Array(matching.map(Reply::bulk).collect())
}

fn list_keys(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    Ok(matching(access.read()?.keys()?.iter(), Some(arguments[1])))
}

fn scan(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let cursor: u64 = std::str::from_utf8(arguments[1])
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Reply::error("invalid cursor"))?;
    let mut pattern = None;
    let mut count = 10;
    // Every key is a string.
    let mut includes_strings = true;
    let mut options = &arguments[2..];
    while let [option, value, rest @ ..] = options {
        if option.eq_ignore_ascii_case(b"COUNT") {
            count = integer(value)?;
            if count < 1 {
                return Err(syntax_error());
            }
        } else if option.eq_ignore_ascii_case(b"MATCH") {
            pattern = Some(*value);
        } else if option.eq_ignore_ascii_case(b"TYPE") {
            includes_strings = value.eq_ignore_ascii_case(b"string");
        } else {
            return Err(syntax_error());
        }
        options = rest;
    }
    if !options.is_empty() {
        return Err(syntax_error());
    }
    let txn = access.read()?;
    // A count beyond the address space means all keys.
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let (next, mut found) = txn.keys()?.scan(cursor, count);
    if !includes_strings {
        found.clear();
    }
    Ok(Reply::Array(vec![
        Reply::bulk(next.to_string()),
        matching(found, pattern),
    ]))
}

/// Milliseconds since 1970.
fn now() -> i64 {
    Clock::System.now().timestamp_millis()
}

/// The options of EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT.
#[derive(Default)]
struct ExpireOptions {
    /// Only if the key has no expiry.
    nx: bool,
    /// Only if the key has an expiry.
    xx: bool,
    /// Only if the new expiry is later. A key without an expiry counts as the latest.
    gt: bool,
    /// Only if the new expiry is earlier.
    lt: bool,
}

impl ExpireOptions {
    fn parse(arguments: &[&[u8]]) -> Result<Self, Reply> {
        let mut options = ExpireOptions::default();
        for option in arguments {
            match &*option.to_ascii_uppercase() {
                b"NX" => options.nx = true,
                b"XX" => options.xx = true,
                b"GT" => options.gt = true,
                b"LT" => options.lt = true,
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Err(Reply::error(format!("Unsupported option {option}")));
                }
            }
        }
        if options.nx && (options.xx || options.gt || options.lt) {
            return Err(Reply::error(
                "NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if options.gt && options.lt {
            return Err(Reply::error(
                "GT and LT options at the same time are not compatible",
            ));
        }
        Ok(options)
    }

    /// Whether a key with the expiry `before` may get the expiry `after`.
    fn allow(&self, before: Option<i64>, after: i64) -> bool {
        !((self.nx && before.is_some())
            || (self.xx && before.is_none())
            || (self.gt && before.is_none_or(|before| after <= before))
            || (self.lt && before.is_some_and(|before| after >= before)))
    }
}

fn expire(
    arguments: &[&[u8]],
    access: &mut Access<'_, '_>,
    command: &str,
    unit: ExpiryUnit,
) -> CommandResult {
    let options = ExpireOptions::parse(&arguments[3..])?;
    let expires_at = unit.moment(integer(arguments[2])?, command)?;
    let name = key(arguments[1])?;
    let txn = access.write()?;
    if !txn.read().exists(name)? {
        return Ok(Reply::Number(0));
    }
    let before = txn.read().expires_at(name).map(saturating_i64);
    if !options.allow(before, expires_at) {
        return Ok(Reply::Number(0));
    }
    // A time before 1970 is over as well.
    expire_at(txn, name, expires_at.max(0).unsigned_abs())?;
    Ok(Reply::Number(1))
}

/// Returns when a bitmap expires, or in how long.
fn expiry(arguments: &[&[u8]], access: &mut Access<'_, '_>, unit: ExpiryUnit) -> CommandResult {
    let txn = access.read()?;
    let name = key(arguments[1])?;
    if !txn.exists(name)? {
        return Ok(Reply::Number(-2));
    }
    Ok(Reply::Number(match txn.expires_at(name) {
        None => -1,
        Some(expires_at) => {
            let start = if unit.is_absolute { 0 } else { now() };
            let millis = saturating_i64(expires_at).saturating_sub(start).max(0);
            // Rounded, as in Redis.
            millis.saturating_add(unit.unit / 2) / unit.unit
        }
    }))
}

fn persist(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let name = key(arguments[1])?;
    let txn = access.write()?;
    if txn.read().expires_at(name).is_none() {
        return Ok(Reply::Number(0));
    }
    Ok(Reply::from(txn.set_expires_at(name, None)?))
}

fn rename(arguments: &[&[u8]], access: &mut Access<'_, '_>, only_new: bool) -> CommandResult {
    let from = key(arguments[1])?;
    let to = key(arguments[2])?;
    let txn = access.write()?;
    if !txn.read().exists(from)? {
        return Err(Reply::error("no such key").into());
    }
    if only_new && txn.read().exists(to)? {
        return Ok(Reply::Number(0));
    }
    txn.rename(from, to)?;
    Ok(if only_new {
        Reply::Number(1)
    } else {
        Reply::OK
    })
}

fn flush(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    match arguments[1..] {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"SYNC") || mode.eq_ignore_ascii_case(b"ASYNC") => {}
        _ => return Err(syntax_error()),
    }
    let txn = access.write()?;
    let keys: Vec<String> = txn.read().keys()?.iter().map(str::to_owned).collect();
    txn.delete(&keys)?;
    txn.delete_string_ids();
    Ok(Reply::OK)
}

fn ping(arguments: &[&[u8]], _: &mut Access<'_, '_>) -> CommandResult {
    match arguments[1..] {
        [] => Ok(Reply::Simple("PONG")),
        [text] => Ok(Reply::bulk(text)),
        _ => Err(Reply::error("wrong number of arguments for 'ping' command").into()),
    }
}

fn select(arguments: &[&[u8]], _: &mut Access<'_, '_>) -> CommandResult {
    match integer(arguments[1])? {
        0 => Ok(Reply::OK),
        _ => Err(Reply::error("DB index is out of range").into()),
    }
}

fn command(arguments: &[&[u8]], _: &mut Access<'_, '_>) -> CommandResult {
    let all = || Reply::Array(COMMANDS.iter().map(describe).collect());
    let Some(subcommand) = arguments.get(1) else {
        return Ok(all());
    };
    match &*subcommand.to_ascii_uppercase() {
        b"COUNT" => Ok(Reply::count(COMMANDS.len() as u64)),
        b"LIST" => Ok(Reply::Array(
            COMMANDS.iter().map(|spec| Reply::bulk(spec.name)).collect(),
        )),
        b"DOCS" => Ok(Reply::Map(Vec::new())),
        b"INFO" if arguments.len() == 2 => Ok(all()),
        b"INFO" => Ok(Reply::Array(
            arguments[2..]
                .iter()
                .map(|name| by_name(name).map_or(Reply::Null, describe))
                .collect(),
        )),
        _ => Err(unknown_subcommand("command", subcommand).into()),
    }
}

/// A command as COMMAND describes it.
fn describe(spec: &Spec) -> Reply {
    let flag = if matches!(spec.kind, Kind::SetBit | Kind::Write | Kind::Flush) {
        "write"
    } else {
        "readonly"
    };
    let mut entry = vec![
        Reply::bulk(spec.name),
        Reply::Number(spec.arity.into()),
        Reply::Array(vec![Reply::Simple(flag)]),
    ];
    entry.extend(spec.keys.positions().map(Reply::Number));
    // No ACL categories, tips, key specifications and subcommands.
    entry.extend((0..4).map(|_| Reply::Array(Vec::new())));
    Reply::Array(entry)
}

/// What a CLIENT command asks the session to do.
pub(super) enum ClientCommand {
    Id,
    GetName,
    SetName(Vec<u8>),
    /// SETINFO, which has no effect.
    SetInfo,
    Info,
    /// LIST, of the clients with these ids if any are given, or of no client.
    List(Option<Vec<u64>>),
}

impl ClientCommand {
    pub fn parse(arguments: &[&[u8]]) -> Result<Self, Reply> {
        let subcommand = arguments[1].to_ascii_uppercase();
        match (&*subcommand, &arguments[2..]) {
            (b"ID", []) => Ok(ClientCommand::Id),
            (b"GETNAME", []) => Ok(ClientCommand::GetName),
            (b"SETNAME", [name]) if name.iter().all(u8::is_ascii_graphic) => {
                Ok(ClientCommand::SetName(name.to_vec()))
            }
            (b"SETNAME", [_]) => Err(Reply::error(
                "Client names cannot contain spaces, newlines or special characters.",
            )),
            (b"SETINFO", [option, _]) => match option.to_ascii_uppercase().as_slice() {
                b"LIB-NAME" | b"LIB-VER" => Ok(ClientCommand::SetInfo),
                _ => Err(Reply::error(format!(
                    "Unrecognized option '{}'",
                    String::from_utf8_lossy(option)
                ))),
            },
            (b"INFO", []) => Ok(ClientCommand::Info),
            (b"LIST", filter) => Ok(ClientCommand::List(ClientCommand::filter(filter)?)),
            // Not reached, because `find` checks subcommands and their arity.
            _ => Err(unknown_subcommand("client", arguments[1])),
        }
    }
    /// Reads the filter of CLIENT LIST.
    fn filter(filter: &[&[u8]]) -> Result<Option<Vec<u64>>, Reply> {
        match filter {
            [] => Ok(None),
            [option, kind] if option.eq_ignore_ascii_case(b"TYPE") => {
                match kind.to_ascii_lowercase().as_slice() {
                    b"normal" => Ok(None),
                    b"master" | b"slave" | b"replica" | b"pubsub" => Ok(Some(Vec::new())),
                    _ => Err(Reply::error(format!(
                        "Unknown client type '{}'",
                        String::from_utf8_lossy(kind)
                    ))),
                }
            }
            [option, ids @ ..] if option.eq_ignore_ascii_case(b"ID") && !ids.is_empty() => {
                let ids = ids.iter().map(|id| {
                    let id = request::number(id).filter(|id| *id > 0);
                    id.map(i64::unsigned_abs)
                        .ok_or_else(|| Reply::error("Invalid client ID"))
                });
                ids.collect::<Result<_, _>>().map(Some)
            }
            _ => Err(Reply::error("syntax error")),
        }
    }
}
