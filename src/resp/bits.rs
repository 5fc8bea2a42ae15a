//! Commands on single bits, on ranges of bits, and on whole bitmaps.

use super::access::{
    Access, CommandError, CommandResult, integer, key, keys, saturating_i64, syntax_error,
};
use super::reply::Reply;
use super::request::number;
use crate::bitmap::Operation;
use crate::sets::UserId;

fn offset(bytes: &[u8]) -> Result<UserId, Reply> {
    number(bytes)
        .and_then(|offset| UserId::try_from(offset).ok())
        .ok_or_else(|| Reply::error("bit offset is not an integer or out of range"))
}

/// Parses the key, the offset and the value of a SETBIT.
pub(super) fn parse_set_bit<'b>(arguments: &[&'b [u8]]) -> Result<(&'b str, UserId, bool), Reply> {
    let &[_, name, user, value] = arguments else {
        return Err(Reply::error("syntax error"));
    };
    let user = offset(user)?;
    let value = match value {
        b"0" => false,
        b"1" => true,
        _ => return Err(Reply::error("bit is not an integer or out of range")),
    };
    Ok((key(name)?, user, value))
}

pub(super) fn set_bit(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let (name, user, value) = parse_set_bit(arguments)?;
    let before = access
        .write()?
        .set_bits(vec![name.to_owned()], vec![(u32::from(value), user)])?;
    Ok(Reply::from(before[0]))
}

pub(super) fn get_bit(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let user = offset(arguments[2])?;
    let bit = access.read()?.bit(key(arguments[1])?, user)?;
    Ok(Reply::from(bit))
}

/// The first and the last index of a range in `total` items, or `None` if it is empty. A negative
/// index counts from the end.
pub(super) fn range(start: i64, end: i64, total: i64) -> Option<(i64, i64)> {
    let start = from_end(start, total);
    let end = from_end(end, total).min(total - 1);
    (start <= end).then_some((start, end))
}

fn from_end(index: i64, total: i64) -> i64 {
    let index = if index < 0 {
        total.saturating_add(index)
    } else {
        index
    };
    index.max(0)
}

/// The unit of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    /// Parses the unit, which is optional.
    fn parse(argument: Option<&&[u8]>) -> Result<Self, CommandError> {
        match argument {
            None => Ok(Unit::Byte),
            Some(unit) if unit.eq_ignore_ascii_case(b"BYTE") => Ok(Unit::Byte),
            Some(unit) if unit.eq_ignore_ascii_case(b"BIT") => Ok(Unit::Bit),
            Some(_) => Err(syntax_error()),
        }
    }

    /// The number of units in a bitmap of `len` bytes.
    fn total(self, len: i64) -> i64 {
        match self {
            Unit::Byte => len,
            Unit::Bit => len * 8,
        }
    }

    /// The first and the last bit of a range within a bitmap.
    fn bits(self, (start, end): (i64, i64)) -> (UserId, UserId) {
        let bit = |index| UserId::try_from(index).expect("a bitmap has at most 2³² bits");
        match self {
            Unit::Byte => (bit(start * 8), bit(end * 8 + 7)),
            Unit::Bit => (bit(start), bit(end)),
        }
    }
}

pub(super) fn bit_count(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let txn = access.read()?;
    let name = key(arguments[1])?;
    if !txn.exists(name)? {
        return Ok(Reply::Number(0));
    }
    let len = saturating_i64(txn.len(name)?);
    let bits = match arguments[2..] {
        [] => range(0, -1, len).map(|all| Unit::Byte.bits(all)),
        [start, end] | [start, end, _] => {
            let start = integer(start)?;
            let end = integer(end)?;
            if start < 0 && end < 0 && start > end {
                return Ok(Reply::Number(0));
            }
            let unit = Unit::parse(arguments.get(4))?;
            range(start, end, unit.total(len)).map(|range| unit.bits(range))
        }
        _ => return Err(syntax_error()),
    };
    Ok(Reply::count(match bits {
        Some((first, last)) => txn.count(name, first, last)?,
        None => 0,
    }))
}

pub(super) fn bit_pos(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let txn = access.read()?;
    let name = key(arguments[1])?;
    let value = match integer(arguments[2])? {
        0 => false,
        1 => true,
        _ => return Err(Reply::error("The bit argument must be 1 or 0.").into()),
    };
    if !txn.exists(name)? {
        return Ok(Reply::Number(if value { -1 } else { 0 }));
    }
    let len = saturating_i64(txn.len(name)?);
    let (start, end, unit) = match arguments[3..] {
        [] => (0, None, Unit::Byte),
        [start] => (integer(start)?, None, Unit::Byte),
        [start, end] | [start, end, _] => {
            let start = integer(start)?;
            let unit = Unit::parse(arguments.get(5))?;
            (start, Some(integer(end)?), unit)
        }
        _ => return Err(syntax_error()),
    };
    let total = unit.total(len);
    let Some(range) = range(start, end.unwrap_or(total - 1), total) else {
        return Ok(Reply::Number(-1));
    };
    let (first, last) = unit.bits(range);
    Ok(Reply::Number(
        match txn.position(name, value, first, last)? {
            Some(found) => i64::from(found),
            // All bits to the end are 1, so the first 0 is after the end, unless an end was given.
            None if !value && end.is_none() => len * 8,
            None => -1,
        },
    ))
}

pub(super) fn bit_op(arguments: &[&[u8]], access: &mut Access<'_, '_>) -> CommandResult {
    let operation: Operation = std::str::from_utf8(arguments[1])
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or_else(syntax_error)?;
    let sources = keys(&arguments[3..])?;
    if operation == Operation::Not && sources.len() != 1 {
        return Err(Reply::error("BITOP NOT must be called with a single source key.").into());
    }
    if sources.len() < operation.min_operands() {
        return Err(Reply::error(format!(
            "BITOP {operation} must be called with at least two source keys."
        ))
        .into());
    }
    let target = key(arguments[2])?;
    let len = access.write()?.combine(operation, target, &sources)?;
    Ok(Reply::count(len))
}
