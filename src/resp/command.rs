//! The commands: what they are called, what they take, and what they do to bitmaps. Words and order
//! of checks are those of Redis 7.0, so that a client cannot tell the difference.

use std::sync::Arc;

use crate::bitmap::{TILE_BYTES, Tile};
use crate::clock::Clock;
use crate::resp::bits::{bit_count, bit_op, bit_pos, get_bit, range, set_bit};
use crate::resp::call::{Answer, Data, Fail, integer, key, keys_of, signed, syntax};
use crate::resp::glob;
use crate::resp::reply::Reply;
use crate::store::embedded::ReadTxn;

/// The version of Redis whose words these are.
pub(super) const VERSION: &str = "7.0.15";

/// What kind of command it is: who carries it out, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// SETBIT, which may wait for others.
    Mark,
    /// Changes bitmaps.
    Change,
    /// Reads bitmaps.
    ReadTxn,
    /// Needs no bitmaps.
    Plain,
    /// FLUSHDB, which the settings may forbid.
    Flush,
    /// The connection answers the others.
    Auth,
    Hello,
    Client,
    Info,
    Multi,
    Exec,
    Discard,
    Quit,
}

/// A command.
pub(super) struct Spec {
    name: &'static str,
    /// How many arguments it takes, its name included; at least so many when negative.
    arity: i32,
    pub kind: Kind,
    /// Whether it can be used without the password.
    pub before_password: bool,
    /// The first and the last key among its arguments and the step from one to the next; 0 for
    /// none.
    keys: (i32, i32, i32),
    pub run: fn(&[&[u8]], &mut Data<'_, '_>) -> Answer,
}

impl Spec {
    /// Whether it computes new bitmaps of whole ones, which may take long.
    pub fn combines(&self) -> bool {
        self.name == "bitop"
    }

    /// Whether the keys it works on are among its arguments.
    pub fn names_keys(&self) -> bool {
        self.keys != NONE
    }

    /// The keys among its arguments. What cannot be a key is left out.
    pub fn keys<'a>(&self, arguments: &[&'a [u8]]) -> Vec<&'a str> {
        let (first, last, step) = self.keys;
        let place = |place: i32| usize::try_from(place).ok();
        // A last key of -1 is the last argument.
        let end = place(last).map_or(arguments.len(), |last| (last + 1).min(arguments.len()));
        let named = place(first)
            .and_then(|first| arguments.get(first..end))
            .unwrap_or_default();
        let step = place(step).filter(|step| *step > 0).unwrap_or(1);
        named
            .iter()
            .step_by(step)
            .filter_map(|bytes| key(bytes).ok())
            .collect()
    }
}

const fn spec(
    name: &'static str,
    arity: i32,
    kind: Kind,
    keys: (i32, i32, i32),
    run: fn(&[&[u8]], &mut Data<'_, '_>) -> Answer,
) -> Spec {
    let before_password = matches!(kind, Kind::Auth | Kind::Hello | Kind::Quit);
    Spec {
        name,
        arity,
        kind,
        before_password,
        keys,
        run,
    }
}

const NONE: (i32, i32, i32) = (0, 0, 0);
const ONE: (i32, i32, i32) = (1, 1, 1);

static COMMANDS: &[Spec] = &[
    spec("setbit", 4, Kind::Mark, ONE, set_bit),
    spec("getbit", 3, Kind::ReadTxn, ONE, get_bit),
    spec("bitcount", -2, Kind::ReadTxn, ONE, bit_count),
    spec("bitpos", -3, Kind::ReadTxn, ONE, bit_pos),
    spec("bitop", -4, Kind::Change, (2, -1, 1), bit_op),
    spec("get", 2, Kind::ReadTxn, ONE, get),
    spec("getrange", 4, Kind::ReadTxn, ONE, get_range),
    spec("set", -3, Kind::Change, ONE, set),
    spec("strlen", 2, Kind::ReadTxn, ONE, |a, data| {
        Ok(Reply::count(data.look()?.len(key(a[1])?)?))
    }),
    spec("exists", -2, Kind::ReadTxn, (1, -1, 1), exists),
    spec("del", -2, Kind::Change, (1, -1, 1), delete),
    spec("unlink", -2, Kind::Change, (1, -1, 1), delete),
    spec("type", 2, Kind::ReadTxn, ONE, |a, data| {
        Ok(Reply::Simple(if data.look()?.exists(key(a[1])?)? {
            "string"
        } else {
            "none"
        }))
    }),
    spec("keys", 2, Kind::ReadTxn, NONE, keys),
    spec("scan", -2, Kind::ReadTxn, NONE, scan),
    spec("dbsize", 1, Kind::ReadTxn, NONE, |_, data| {
        Ok(Reply::count(data.look()?.keys()?.len() as u64))
    }),
    spec("expire", -3, Kind::Change, ONE, |a, data| {
        expire(a, data, 1000)
    }),
    spec("pexpire", -3, Kind::Change, ONE, |a, data| {
        expire(a, data, 1)
    }),
    spec("ttl", 2, Kind::ReadTxn, ONE, |a, data| {
        time_left(a, data, 1000)
    }),
    spec("pttl", 2, Kind::ReadTxn, ONE, |a, data| {
        time_left(a, data, 1)
    }),
    spec("persist", 2, Kind::Change, ONE, persist),
    spec("rename", 3, Kind::Change, (1, 2, 1), |a, data| {
        rename(a, data, false)
    }),
    spec("renamenx", 3, Kind::Change, (1, 2, 1), |a, data| {
        rename(a, data, true)
    }),
    spec("flushdb", -1, Kind::Flush, NONE, flush),
    spec("ping", -1, Kind::Plain, NONE, ping),
    spec("echo", 2, Kind::Plain, NONE, |a, _| Ok(Reply::bulk(a[1]))),
    spec("select", 2, Kind::Plain, NONE, select),
    spec("command", -1, Kind::Plain, NONE, command),
    spec("info", -1, Kind::Info, NONE, nothing),
    spec("auth", -2, Kind::Auth, NONE, nothing),
    spec("hello", -1, Kind::Hello, NONE, nothing),
    spec("client", -2, Kind::Client, NONE, nothing),
    spec("multi", 1, Kind::Multi, NONE, nothing),
    spec("exec", 1, Kind::Exec, NONE, nothing),
    spec("discard", 1, Kind::Discard, NONE, nothing),
    spec("quit", -1, Kind::Quit, NONE, nothing),
];

/// Commands that the connection answers.
fn nothing(_: &[&[u8]], _: &mut Data<'_, '_>) -> Answer {
    Ok(Reply::OK)
}

pub(super) fn named(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS
        .iter()
        .find(|spec| name.eq_ignore_ascii_case(spec.name.as_bytes()))
}

/// Finds a command and checks that there are as many arguments as it takes.
pub(super) fn find(arguments: &[&[u8]]) -> Result<&'static Spec, Reply> {
    let name = arguments.first().copied().unwrap_or_default();
    let Some(spec) = named(name) else {
        let shown = |bytes: &[u8], most: usize| {
            String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned()
        };
        let mut rest = String::new();
        for argument in &arguments[1..] {
            if rest.len() >= 128 {
                break;
            }
            rest += &format!("'{}' ", shown(argument, 128 - rest.len()));
        }
        let name = shown(name, 128);
        return Err(Reply::error(format!(
            "unknown command '{name}', with args beginning with: {rest}"
        )));
    };
    if !takes(spec.arity, arguments.len()) {
        return Err(Reply::error(format!(
            "wrong number of arguments for '{}' command",
            spec.name
        )));
    }
    // A part of a command that is not there is no command: this is known before anything is carried
    // out.
    let parts = PARTS.iter().find(|(command, _)| *command == spec.name);
    if let (Some((command, parts)), Some(part)) = (parts, arguments.get(1)) {
        let part = String::from_utf8_lossy(part);
        let Some((part, arity)) = parts
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(&part))
        else {
            let part: String = part.chars().take(128).collect();
            let help = command.to_uppercase();
            return Err(Reply::error(format!(
                "unknown subcommand '{part}'. Try {help} HELP."
            )));
        };
        if !takes(*arity, arguments.len()) {
            return Err(Reply::error(format!(
                "wrong number of arguments for '{command}|{part}' command"
            )));
        }
    }
    Ok(spec)
}

/// The parts of commands that have some, and how many arguments each takes, as in [`Spec`].
type Part = (&'static str, i32);
const PARTS: [(&str, &[Part]); 2] = [
    (
        "client",
        &[("id", 2), ("getname", 2), ("setname", 3), ("setinfo", 4)],
    ),
    (
        "command",
        &[("count", 2), ("list", -2), ("docs", -2), ("info", -2)],
    ),
];

fn takes(arity: i32, given: usize) -> bool {
    let given = i32::try_from(given).unwrap_or(i32::MAX);
    if arity < 0 {
        given >= -arity
    } else {
        given == arity
    }
}

fn whole(look: ReadTxn<'_>, name: &str) -> Answer {
    Ok(match look.snapshot(name)? {
        None => Reply::Nothing,
        Some(bitmap) if bitmap.len == 0 => Reply::bulk(""),
        Some(bitmap) => {
            let last = bitmap.len - 1;
            Reply::Bitmap(bitmap, 0, last)
        }
    })
}

fn get(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    whole(data.look()?, key(arguments[1])?)
}

fn get_range(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let (start, end) = (integer(arguments[2])?, integer(arguments[3])?);
    let (look, name) = (data.look()?, key(arguments[1])?);
    let wanted = range(start, end, signed(look.len(name)?))
        .filter(|_| !(start < 0 && end < 0 && start > end));
    let Some((first, last)) = wanted else {
        return Ok(Reply::bulk(""));
    };
    let (first, last) = (first.unsigned_abs(), last.unsigned_abs());
    Ok(Reply::Bitmap(look.part(name, first, last)?, first, last))
}

fn set(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let (mut only_new, mut only_old, mut answer_old, mut keep) = (false, false, false, false);
    // What was given, and in which unit.
    let mut end: Option<(&[u8], Vec<u8>)> = None;
    let mut options = &arguments[3..];
    while let [option, tail @ ..] = options {
        let option = option.to_ascii_uppercase();
        options = match (&*option, tail) {
            (b"NX", _) if !only_old => {
                only_new = true;
                tail
            }
            (b"XX", _) if !only_new => {
                only_old = true;
                tail
            }
            (b"GET", _) => {
                answer_old = true;
                tail
            }
            (b"KEEPTTL", _) if end.is_none() => {
                keep = true;
                tail
            }
            // The same unit may be given again, and then counts.
            (unit @ (b"EX" | b"PX" | b"EXAT" | b"PXAT"), [span, tail @ ..])
                if !keep && end.as_ref().is_none_or(|(_, before)| before == unit) =>
            {
                end = Some((*span, unit.to_vec()));
                tail
            }
            _ => return Err(syntax()),
        };
    }
    let until = match end {
        None => None,
        Some((span, unit)) => {
            let invalid = || Fail::from(Reply::error("invalid expire time in 'set' command"));
            let span = integer(span)?;
            let milliseconds = span.checked_mul(if unit.starts_with(b"EX") { 1000 } else { 1 });
            let milliseconds = milliseconds.filter(|_| span > 0).ok_or_else(invalid)?;
            let base = if unit.ends_with(b"AT") { 0 } else { now() };
            Some(
                milliseconds
                    .checked_add(base)
                    .ok_or_else(invalid)?
                    .unsigned_abs(),
            )
        }
    };
    let name = key(arguments[1])?;
    let space = data.space()?;
    let old = if answer_old {
        Some(whole(space.read(), name)?)
    } else {
        None
    };
    let there = space.read().exists(name)?;
    if (only_new && there) || (only_old && !there) {
        return Ok(old.unwrap_or(Reply::Nothing));
    }
    let before = space.read().expires_at(name);
    let value = arguments[2];
    let tile_bytes = usize::try_from(TILE_BYTES).unwrap_or(8192);
    let tiles = (0..)
        .zip(value.chunks(tile_bytes))
        .map(|(number, bytes)| (number, Arc::new(Tile::of_bytes(bytes))));
    space.put(
        name,
        value.len() as u64,
        tiles.filter(|(_, tile)| !tile.is_empty()).collect(),
    )?;
    match (until, keep) {
        (Some(until), _) => drop(space.set_expires_at(name, Some(until))?),
        (None, true) => drop(space.set_expires_at(name, before)?),
        (None, false) => {}
    }
    Ok(old.unwrap_or(Reply::OK))
}

fn exists(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let look = data.look()?;
    let mut found = 0;
    for name in &arguments[1..] {
        found += i64::from(look.exists(key(name)?)?);
    }
    Ok(Reply::Number(found))
}

fn delete(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let keys = keys_of(&arguments[1..])?;
    Ok(Reply::count(data.space()?.delete(&keys)?))
}

fn listed<'t>(texts: impl IntoIterator<Item = &'t str>, pattern: Option<&[u8]>) -> Reply {
    let fitting = texts
        .into_iter()
        .filter(|text| pattern.is_none_or(|pattern| glob::fits(pattern, text.as_bytes())));
    Reply::Array(fitting.map(Reply::bulk).collect())
}

fn keys(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    Ok(listed(data.look()?.keys()?.iter(), Some(arguments[1])))
}

fn scan(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let cursor = std::str::from_utf8(arguments[1])
        .ok()
        .and_then(|text| text.parse().ok());
    let cursor: u64 = cursor.ok_or_else(|| Reply::error("invalid cursor"))?;
    let (mut pattern, mut count, mut strings) = (None, 10, true);
    let mut options = &arguments[2..];
    while let [option, value, tail @ ..] = options {
        if option.eq_ignore_ascii_case(b"COUNT") {
            count = integer(value)?;
            if count < 1 {
                return Err(syntax());
            }
        } else if option.eq_ignore_ascii_case(b"MATCH") {
            pattern = Some(*value);
        } else if option.eq_ignore_ascii_case(b"TYPE") {
            strings = value.eq_ignore_ascii_case(b"string");
        } else {
            return Err(syntax());
        }
        options = tail;
    }
    if !options.is_empty() {
        return Err(syntax());
    }
    let look = data.look()?;
    let (next, found) = look
        .keys()?
        .scan(cursor, usize::try_from(count).unwrap_or(usize::MAX));
    let found = if strings { found } else { Vec::new() };
    Ok(Reply::Array(vec![
        Reply::bulk(next.to_string()),
        listed(found, pattern),
    ]))
}

fn now() -> i64 {
    Clock::System.now().timestamp_millis()
}

fn expire(arguments: &[&[u8]], data: &mut Data<'_, '_>, unit: i64) -> Answer {
    let (mut nx, mut xx, mut gt, mut lt) = (false, false, false, false);
    for option in &arguments[3..] {
        match &*option.to_ascii_uppercase() {
            b"NX" => nx = true,
            b"XX" => xx = true,
            b"GT" => gt = true,
            b"LT" => lt = true,
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(Reply::error(format!("Unsupported option {option}")).into());
            }
        }
    }
    if nx && (xx || gt || lt) {
        return Err(Reply::error(
            "NX and XX, GT or LT options at the same time are not compatible",
        )
        .into());
    }
    if gt && lt {
        return Err(Reply::error("GT and LT options at the same time are not compatible").into());
    }
    let name = if unit == 1 { "pexpire" } else { "expire" };
    let invalid = || {
        Fail::from(Reply::error(format!(
            "invalid expire time in '{name}' command"
        )))
    };
    let span = integer(arguments[2])?;
    let until = span
        .checked_mul(unit)
        .and_then(|span| span.checked_add(now()))
        .ok_or_else(invalid)?;
    let name = key(arguments[1])?;
    let space = data.space()?;
    if !space.read().exists(name)? {
        return Ok(Reply::Number(0));
    }
    let before = space.read().expires_at(name).map(signed);
    let refused = (nx && before.is_some())
        || (xx && before.is_none())
        // Whoever stays for good goes later than anybody.
        || (gt && before.is_none_or(|before| until <= before))
        || (lt && before.is_some_and(|before| until >= before));
    if refused {
        return Ok(Reply::Number(0));
    }
    if until <= now() {
        space.delete(&[name.to_owned()])?;
    } else {
        space.set_expires_at(name, Some(until.unsigned_abs()))?;
    }
    Ok(Reply::Number(1))
}

fn time_left(arguments: &[&[u8]], data: &mut Data<'_, '_>, unit: i64) -> Answer {
    let (look, name) = (data.look()?, key(arguments[1])?);
    Ok(Reply::Number(match look.expires_at(name) {
        _ if !look.exists(name)? => -2,
        None => -1,
        Some(until) => (signed(until).saturating_sub(now()).max(0) + unit / 2) / unit,
    }))
}

fn persist(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let name = key(arguments[1])?;
    let space = data.space()?;
    if space.read().expires_at(name).is_none() {
        return Ok(Reply::Number(0));
    }
    Ok(Reply::Number(i64::from(space.set_expires_at(name, None)?)))
}

fn rename(arguments: &[&[u8]], data: &mut Data<'_, '_>, only_new: bool) -> Answer {
    let (from, to) = (key(arguments[1])?, key(arguments[2])?);
    let space = data.space()?;
    if !space.read().exists(from)? {
        return Err(Reply::error("no such key").into());
    }
    if only_new && space.read().exists(to)? {
        return Ok(Reply::Number(0));
    }
    space.rename(from, to)?;
    Ok(if only_new {
        Reply::Number(1)
    } else {
        Reply::OK
    })
}

fn flush(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    match arguments[1..] {
        [] => {}
        [how] if how.eq_ignore_ascii_case(b"SYNC") || how.eq_ignore_ascii_case(b"ASYNC") => {}
        _ => return Err(syntax()),
    }
    let space = data.space()?;
    let keys: Vec<String> = space.read().keys()?.iter().map(str::to_owned).collect();
    space.delete(&keys)?;
    space.delete_string_ids();
    Ok(Reply::OK)
}

fn ping(arguments: &[&[u8]], _: &mut Data<'_, '_>) -> Answer {
    match arguments[1..] {
        [] => Ok(Reply::Simple("PONG")),
        [text] => Ok(Reply::bulk(text)),
        _ => Err(Reply::error("wrong number of arguments for 'ping' command").into()),
    }
}

fn select(arguments: &[&[u8]], _: &mut Data<'_, '_>) -> Answer {
    match integer(arguments[1])? {
        0 => Ok(Reply::OK),
        _ => Err(Reply::error("DB index is out of range").into()),
    }
}

fn command(arguments: &[&[u8]], _: &mut Data<'_, '_>) -> Answer {
    let told = |spec: &Spec| {
        let flag = if matches!(spec.kind, Kind::Mark | Kind::Change | Kind::Flush) {
            "write"
        } else {
            "readonly"
        };
        let (first, last, step) = spec.keys;
        let mut entry = vec![
            Reply::bulk(spec.name),
            Reply::Number(spec.arity.into()),
            Reply::Array(vec![Reply::Simple(flag)]),
            Reply::Number(first.into()),
            Reply::Number(last.into()),
            Reply::Number(step.into()),
        ];
        // Access lists, hints, places of keys and subcommands: nothing to tell.
        entry.extend((0..4).map(|_| Reply::Array(Vec::new())));
        Reply::Array(entry)
    };
    let Some(part) = arguments.get(1) else {
        return Ok(Reply::Array(COMMANDS.iter().map(told).collect()));
    };
    match &*part.to_ascii_uppercase() {
        b"COUNT" => Ok(Reply::count(COMMANDS.len() as u64)),
        b"LIST" => Ok(Reply::Array(
            COMMANDS.iter().map(|spec| Reply::bulk(spec.name)).collect(),
        )),
        b"DOCS" => Ok(Reply::Map(Vec::new())),
        b"INFO" if arguments.len() == 2 => Ok(Reply::Array(COMMANDS.iter().map(told).collect())),
        b"INFO" => Ok(Reply::Array(
            arguments[2..]
                .iter()
                .map(|name| named(name).map_or(Reply::Nothing, told))
                .collect(),
        )),
        _ => Err(unknown_part("COMMAND", part)),
    }
}

fn unknown_part(command: &str, part: &[u8]) -> Fail {
    let part = String::from_utf8_lossy(&part[..part.len().min(128)]);
    Reply::error(format!("unknown subcommand '{part}'. Try {command} HELP.")).into()
}

/// What CLIENT asks the session for.
pub(super) enum Outcome {
    Id,
    Name,
    Named(Vec<u8>),
    Nothing,
}

pub(super) fn client(arguments: &[&[u8]]) -> Result<Outcome, Reply> {
    let part = arguments.get(1).copied().unwrap_or_default();
    let lower = String::from_utf8_lossy(part).to_lowercase();
    match (&*lower, arguments.get(2..).unwrap_or_default()) {
        ("id", []) => Ok(Outcome::Id),
        ("getname", []) => Ok(Outcome::Name),
        ("setname", [name]) if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) => {
            Ok(Outcome::Named(name.to_vec()))
        }
        ("setname", [_]) => Err(Reply::error(
            "Client names cannot contain spaces, newlines or special characters.",
        )),
        ("setinfo", [option, _]) => match option.to_ascii_uppercase().as_slice() {
            b"LIB-NAME" | b"LIB-VER" => Ok(Outcome::Nothing),
            _ => Err(Reply::error(format!(
                "Unrecognized option '{}'",
                String::from_utf8_lossy(option)
            ))),
        },
        // `find` lets no other part in, and no other number of arguments.
        _ => Ok(Outcome::Nothing),
    }
}
