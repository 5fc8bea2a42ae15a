//! The commands on single bits, on ranges of them, and on whole bitmaps.

use crate::bitmap::Operation;
use crate::resp::call::{Answer, Data, Fail, integer, key, keys_of, signed, syntax};
use crate::resp::reply::Reply;
use crate::resp::request::number;
use crate::sets::UserId;

fn offset(bytes: &[u8]) -> Result<UserId, Reply> {
    let offset = number(bytes).and_then(|offset| UserId::try_from(offset).ok());
    offset.ok_or_else(|| Reply::error("bit offset is not an integer or out of range"))
}

/// Key, offset and value of a SETBIT.
pub(super) fn mark<'b>(arguments: &[&'b [u8]]) -> Result<(&'b str, UserId, bool), Reply> {
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

pub(super) fn set_bit(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let (name, user, value) = mark(arguments)?;
    let before = data
        .space()?
        .set_bits(vec![name.to_owned()], vec![(u32::from(value), user)])?;
    Ok(Reply::Number(i64::from(before.first() == Some(&true))))
}

pub(super) fn get_bit(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let user = offset(arguments[2])?;
    Ok(Reply::Number(i64::from(
        data.look()?.bit(key(arguments[1])?, user)?,
    )))
}

/// Where a range begins and ends in a text of `total` units, both included. Counted from the end
/// when negative.
pub(super) fn range(start: i64, end: i64, total: i64) -> Option<(i64, i64)> {
    let at = |place: i64| {
        (if place < 0 {
            total.saturating_add(place)
        } else {
            place
        })
        .max(0)
    };
    let (start, end) = (at(start), at(end).min(total - 1));
    (start <= end).then_some((start, end))
}

/// Bits of a range whose places are of bits, or of bytes.
fn bits((start, end): (i64, i64), of_bits: bool) -> (UserId, UserId) {
    let place = |place: i64| UserId::try_from(place).unwrap_or(UserId::MAX);
    if of_bits {
        (place(start), place(end))
    } else {
        (
            place(start * 8),
            place(end.saturating_mul(8).saturating_add(7)),
        )
    }
}

fn is_bits(unit: Option<&&[u8]>) -> Result<bool, Fail> {
    match unit {
        None => Ok(false),
        Some(unit) if unit.eq_ignore_ascii_case(b"BYTE") => Ok(false),
        Some(unit) if unit.eq_ignore_ascii_case(b"BIT") => Ok(true),
        Some(_) => Err(syntax()),
    }
}

pub(super) fn bit_count(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let (look, name) = (data.look()?, key(arguments[1])?);
    if !look.exists(name)? {
        return Ok(Reply::Number(0));
    }
    let len = signed(look.len(name)?);
    let wanted = match arguments[2..] {
        [] => range(0, -1, len).map(|whole| bits(whole, false)),
        [start, end] | [start, end, _] => {
            let (start, end) = (integer(start)?, integer(end)?);
            if start < 0 && end < 0 && start > end {
                return Ok(Reply::Number(0));
            }
            let of_bits = is_bits(arguments.get(4))?;
            range(start, end, if of_bits { len * 8 } else { len }).map(|range| bits(range, of_bits))
        }
        _ => return Err(syntax()),
    };
    Ok(Reply::count(match wanted {
        Some((first, last)) => look.count(name, first, last)?,
        None => 0,
    }))
}

pub(super) fn bit_pos(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let (look, name) = (data.look()?, key(arguments[1])?);
    let value = match integer(arguments[2])? {
        0 => false,
        1 => true,
        _ => return Err(Reply::error("The bit argument must be 1 or 0.").into()),
    };
    if !look.exists(name)? {
        return Ok(Reply::Number(if value { -1 } else { 0 }));
    }
    let len = signed(look.len(name)?);
    let (start, end, of_bits) = match arguments[3..] {
        [] => (0, None, false),
        [start] => (integer(start)?, None, false),
        [start, end] | [start, end, _] => {
            let start = integer(start)?;
            let of_bits = is_bits(arguments.get(5))?;
            (start, Some(integer(end)?), of_bits)
        }
        _ => return Err(syntax()),
    };
    let total = if of_bits { len * 8 } else { len };
    let Some(wanted) = range(start, end.unwrap_or(total - 1), total) else {
        return Ok(Reply::Number(-1));
    };
    let (first, last) = bits(wanted, of_bits);
    Ok(Reply::Number(
        match look.position(name, value, first, last)? {
            Some(found) => i64::from(found),
            // All ones to the end, and the first zero is behind it: unless the end was given.
            None if !value && end.is_none() => len * 8,
            None => -1,
        },
    ))
}

pub(super) fn bit_op(arguments: &[&[u8]], data: &mut Data<'_, '_>) -> Answer {
    let operation: Operation = std::str::from_utf8(arguments[1])
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or_else(syntax)?;
    let sources = keys_of(&arguments[3..])?;
    if operation == Operation::Not && sources.len() != 1 {
        return Err(Reply::error("BITOP NOT must be called with a single source key.").into());
    }
    if sources.len() < operation.min_operands() {
        return Err(Reply::error(format!(
            "BITOP {operation} must be called with at least two source keys."
        ))
        .into());
    }
    Ok(Reply::count(data.space()?.combine(
        operation,
        key(arguments[2])?,
        &sources,
    )?))
}
