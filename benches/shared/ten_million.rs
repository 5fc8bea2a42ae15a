//! 10 M users: 570 000 random ones are active each day, and 10 000 sign up, with ids in order of
//! sign-up.

use chrono::{DateTime, Utc};
use cohortist::calendar::{Grain, Period, parse_moment};
use cohortist::reports::retention::Query;
use cohortist::sets::{EventName, Key, Segment};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// How many users there are.
#[allow(dead_code)]
pub const USERS: u32 = 10_000_000;
const DAYS: i64 = 31;
const ACTIVE: u32 = 570_000;
const SIGNUPS: u32 = 10_000;

/// As of when.
pub fn now() -> DateTime<Utc> {
    parse_moment("2026-10-31T18:00:00Z").unwrap()
}

/// The users of each bitmap of the last 31 days, ascending.
#[allow(dead_code)]
pub fn bitmaps() -> impl Iterator<Item = (Key, Vec<u32>)> {
    bitmaps_of(DAYS)
}

/// The users of each bitmap of the last days, ascending.
pub fn bitmaps_of(days: i64) -> impl Iterator<Item = (Key, Vec<u32>)> {
    let today = Period::containing(Grain::Day, now()).unwrap();
    let [active, signup] = ["active", "signup"].map(|name| EventName::new(name).unwrap());
    (0..days).flat_map(move |back| {
        let day = today.shift(-back).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(back.unsigned_abs());
        let mut users: Vec<u32> = (0..ACTIVE).map(|_| random.next_u32() % USERS).collect();
        users.sort_unstable();
        users.dedup();
        let newest = USERS - u32::try_from(back).unwrap() * SIGNUPS;
        [
            (Key::new(active.clone(), day).unwrap(), users),
            (
                Key::new(signup.clone(), day).unwrap(),
                (newest - SIGNUPS..newest).collect(),
            ),
        ]
    })
}

/// Who came back of a cohort: 31 × 13.
pub fn query(cohort: &str) -> Query {
    let segment = |name: &str| name.parse::<Segment>().unwrap();
    Query {
        rows: Some(31),
        cols: Some(13),
        ..Query::new(segment(cohort), segment("active"), Grain::Day)
    }
}

/// A bitmap as Redis has it.
#[allow(dead_code)]
pub fn bytes(users: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0_u8; (users.last().unwrap() / 8 + 1) as usize];
    users
        .iter()
        .for_each(|user| bytes[(user / 8) as usize] |= 0x80 >> (user % 8));
    bytes
}
