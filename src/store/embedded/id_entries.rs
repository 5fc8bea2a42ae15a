//! The entries of the table that hold string ids: how they are written and read.

use std::collections::BTreeSet;

use crate::sets::UserId;
use crate::store::Result;
use crate::store::embedded::table::{
    Entry, ID, Input, NEXT_NUMBER, NUMBER, PRESENT, Version, entry_key, put_varint,
};

/// Returns the key of an entry about the string ids of a prefix, or the start of all such keys if
/// `rest` is empty.
pub(super) fn key_of(kind: u8, prefix: &str, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 10 + prefix.len() + rest.len());
    key.push(kind);
    put_varint(&mut key, prefix.len() as u64);
    key.extend_from_slice(prefix.as_bytes());
    key.extend_from_slice(rest);
    key
}

pub(super) fn id_key(prefix: &str, id: &str) -> Vec<u8> {
    key_of(ID, prefix, id.as_bytes())
}

pub(super) fn number_key(prefix: &str, user: UserId) -> Vec<u8> {
    key_of(NUMBER, prefix, &user.to_be_bytes())
}

pub(super) fn number_value(number: u64) -> Vec<u8> {
    let mut value = vec![PRESENT];
    put_varint(&mut value, number);
    value
}

pub(super) fn read_number(contents: &[u8]) -> Option<u64> {
    let mut input = Input(contents);
    input.varint().filter(|_| input.is_empty())
}

pub(super) fn id_value(id: &str) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + id.len());
    value.push(PRESENT);
    value.extend_from_slice(id.as_bytes());
    value
}

/// Returns the prefixes that have string ids in the table.
pub fn prefixes(table: &Version) -> Result<BTreeSet<Box<str>>> {
    let mut found = BTreeSet::new();
    table.visit(&[NEXT_NUMBER], |prefix, _| {
        // No key starts with a prefix that is not UTF-8.
        if let Ok(prefix) = std::str::from_utf8(prefix) {
            found.insert(prefix.into());
        }
        Ok(true)
    })?;
    Ok(found)
}

/// Returns both entries of a string id: string id → number, and number → string id.
pub fn id_entries(prefix: &str, id: &str, user: UserId) -> [(Vec<u8>, Vec<u8>); 2] {
    [
        (id_key(prefix, id), number_value(user.into())),
        (number_key(prefix, user), id_value(id)),
    ]
}

/// An entry of the table about string ids.
pub enum IdEntry {
    /// The number of a string id.
    ById(String, UserId),
    /// The string id of a number.
    ByNumber(UserId, String),
    /// The number of the next new string id.
    Next(u64),
}

/// Reads an entry about string ids, given its key and its contents. Returns its prefix and the
/// entry, or `None` if it is a different or an invalid entry.
pub fn read_entry(key: &[u8], contents: &[u8]) -> Option<(String, IdEntry)> {
    let string = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let (kind, rest) = key.split_first()?;
    if *kind == NEXT_NUMBER {
        return Some((string(rest)?, IdEntry::Next(read_number(contents)?)));
    }
    if ![ID, NUMBER].contains(kind) {
        return None;
    }
    let mut input = Input(rest);
    let len = input.len()?;
    let prefix = string(input.take(len)?)?;
    let entry = if *kind == ID {
        let number = UserId::try_from(read_number(contents)?).ok()?;
        IdEntry::ById(string(input.0)?, number)
    } else {
        let number = UserId::from_be_bytes(input.0.try_into().ok()?);
        IdEntry::ByNumber(number, string(contents)?)
    };
    Some((prefix, entry))
}

/// Returns the entry that holds the number of the next new string id.
pub fn next_entry(prefix: &str, next: u64) -> Entry {
    (entry_key(NEXT_NUMBER, prefix), Some(number_value(next)))
}
