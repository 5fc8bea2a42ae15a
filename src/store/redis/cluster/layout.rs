//! Which shard a user is in, how its keys are named, and which cluster slots they are in. Does no
//! I/O.
//!
//! A shard is a range of 2²⁰ ids: user 3 145 735 is user 7 of shard 3. A bitmap of a shard is a
//! separate key of at most 128 KiB, `{prefix}{shard3z}active_2026-11-23`. Redis computes the slot
//! of a key only from the part in braces, so all bitmaps of a shard, and the temporary keys
//! computed from them, are on one node. The size of a shard is a compromise: a command for a bitmap
//! of 128 KiB takes Redis about ten times as long as parsing the command does, and ten million
//! users are enough to keep several nodes busy.
//!
//! Why `shard3z` and not just `3`: the slot of a tag depends on its checksum, and the checksums of
//! `u0`, `u1`, `u2` … are unevenly distributed. Of the first ten shards, three primaries with a
//! third of the slots each would get six, two and two, so the first primary would do more than half
//! of the work. With these tags they get three, four and three. The distribution is about as even
//! for other numbers of primaries and shards.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::sets::{Key, Prefix, SCRATCH, UserId};

/// A shard's number, from 0 to 4095.
pub(super) type Shard = u32;

const BITS: u32 = 20;

/// The maximum number of shards.
pub(super) const SHARDS: Shard = 1 << (UserId::BITS - BITS);

/// The number of user ids in a shard.
pub(super) const USERS: u32 = 1 << BITS;

/// The number of slots of a cluster.
pub(super) const SLOTS: usize = 16_384;

/// The shard of a user, and the user's number in it.
pub(super) fn place(user: UserId) -> (Shard, UserId) {
    (user >> BITS, user & (USERS - 1))
}

/// The user with a number in a shard.
pub(super) fn user(shard: Shard, number: UserId) -> UserId {
    shard << BITS | number
}

/// The prefix of the keys of a shard.
pub(super) fn prefix(of_all: &Prefix, shard: Shard) -> Prefix {
    Prefix::new(&format!("{of_all}{{shard{shard}z}}"))
}

/// The text before and after the shard's number in its tag.
pub(super) const AROUND: (&str, &str) = ("{shard", "z}");

/// The tag of the keys of string ids, which puts all of them in one slot.
pub(super) const IDS: &str = "{ids}";

/// Parses the text of a key into its shard and the key. `None` for anything but an event's bitmap.
pub(super) fn parse(of_all: &Prefix, text: &str) -> Option<(Shard, Key)> {
    let digits = text
        .strip_prefix(of_all.as_str())?
        .strip_prefix(AROUND.0)?
        .split_once(AROUND.1)?
        .0;
    let shard: Shard = digits.parse().ok().filter(|shard| *shard < SHARDS)?;
    // Only names that we would write ourselves, so no leading zeros.
    (shard.to_string() == digits)
        .then(|| Key::parse(&prefix(of_all, shard), text))
        .flatten()
        .map(|key| (shard, key))
}

/// The name of the key on a single server: its text without the tag of a shard or of the string
/// ids. `None` for keys without a tag, unless they are temporary.
pub(super) fn plain<'a>(of_all: &Prefix, text: &'a str) -> Option<Cow<'a, str>> {
    let rest = text.strip_prefix(of_all.as_str())?;
    let behind = match parse(of_all, text) {
        Some((shard, _)) => text.strip_prefix(prefix(of_all, shard).as_str()),
        None => rest.strip_prefix(IDS).or_else(|| {
            let (digits, behind) = rest.strip_prefix(AROUND.0)?.split_once(AROUND.1)?;
            let shard: Shard = digits.parse().ok().filter(|shard| *shard < SHARDS)?;
            (shard.to_string() == digits && behind.starts_with(SCRATCH)).then_some(behind)
        }),
    };
    match behind {
        Some(behind) => Some(Cow::Owned(format!("{of_all}{behind}"))),
        None => (rest.starts_with(SCRATCH) && Key::parse(of_all, text).is_none())
            .then_some(Cow::Borrowed(text)),
    }
}

/// The prefix of an event's key in a shard.
pub(super) fn prefix_of(text: &str) -> Option<&str> {
    let before = text.get(..text.find(AROUND.0)?)?;
    parse(&Prefix::new(before), text).map(|_| before)
}

/// The slot of a key, computed from the text between its first `{` and the next `}`, or else from
/// the whole key.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map(|(tag, _)| tag);
    checksum(tag.filter(|tag| !tag.is_empty()).unwrap_or(key).as_bytes()) % 16_384
}

/// The slot of a shard.
pub(super) fn slot_of(shard: Shard) -> u16 {
    static SLOTS_OF_SHARDS: OnceLock<Vec<u16>> = OnceLock::new();
    // The prefix does not matter, because it has no braces.
    let all = || {
        (0..SHARDS)
            .map(|shard| slot(prefix(&Prefix::new(""), shard).as_str()))
            .collect()
    };
    let place = usize::try_from(shard).expect("a shard number fits");
    SLOTS_OF_SHARDS.get_or_init(all)[place]
}

/// CRC-16 as in Redis Cluster (XMODEM): polynomial 0x1021, initial value 0, highest bit first.
fn checksum(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| {
            sum << 1 ^ if sum & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // The answers of `CLUSTER KEYSLOT`.
        for (key, expected) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("a{foo}b{c}", 12_182),
            ("a{}foo", 16_292),
            ("", 0),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_eq!(slot_of(3), slot("trackist_{shard3z}{x}active_u"));
    }

    #[test]
    fn users_are_found_where_they_were_put() {
        for id in [0, 1, USERS - 1, USERS, 5 * USERS + 7, UserId::MAX] {
            let (shard, number) = place(id);
            assert!(shard < SHARDS && number < USERS);
            assert_eq!(user(shard, number), id);
        }
        assert_eq!((place(3_145_735), place(UserId::MAX).0), ((3, 7), 4095));
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let all = Prefix::new("trackist_");
        for shard in [0, 3, 4095] {
            let text = format!("{}a_{{b}}_2026-11-3", prefix(&all, shard));
            let (found, key) = parse(&all, &text).unwrap();
            assert_eq!(
                (
                    found,
                    key.to_string().as_str(),
                    key.text(&prefix(&all, shard))
                ),
                (shard, "a_{b}_2026-11-3", text)
            );
        }
        for text in [
            "a_u",
            "{shard3z}a_u",
            "trackist_{shard03z}a_u",
            "trackist_{shard4096z}a_u",
            "trackist_{shardz}a_u",
            "trackist_{shard3z}bitop_x:1",
        ] {
            assert_eq!(parse(&all, text), None, "{text}");
        }
    }

    #[test]
    fn keys_are_called_as_on_a_single_server() {
        let all = Prefix::new("t_");
        for (text, name) in [
            ("t_{shard3z}a_u", Some("t_a_u")),
            ("t_{shard3z}bitop_x:1", Some("t_bitop_x:1")),
            ("t_bitop_x:saving:a_u", Some("t_bitop_x:saving:a_u")),
            ("t_{ids}ids:texts", Some("t_ids:texts")),
            ("t_a_u", None),
            ("t_bitop_u", None),
            ("t_{shard3z}cache", None),
            ("t_{shard4096z}a_u", None),
        ] {
            assert_eq!(plain(&all, text).as_deref(), name, "{text}");
        }
        let prefixes = [
            "shop:{shard0z}a_u",
            "shop:{shard0z}cache",
            "shop:a_u",
            "{shard7z}a_2026-11",
        ]
        .map(prefix_of);
        assert_eq!(prefixes, [Some("shop:"), None, None, Some("")]);
    }

    #[test]
    fn shards_lie_evenly_on_equal_primaries() {
        for (primaries, shards, most) in [
            (3, 3, 1),
            (3, 6, 2),
            (3, 10, 4),
            (4, 10, 3),
            (5, 10, 2),
            (6, 6, 1),
            (6, 20, 4),
        ] {
            let mut loads = vec![0; primaries];
            (0..shards)
                .for_each(|shard| loads[usize::from(slot_of(shard)) * primaries / SLOTS] += 1);
            assert!(
                loads.iter().all(|load| *load <= most),
                "{primaries} primaries: {loads:?}"
            );
        }
    }
}
