//! Bodies of analytics libraries: whatever comes in is read without a panic, and what is read is right.

use std::collections::BTreeSet;

use cohortist::calendar::parse_moment;
use cohortist::server::collect::{Wanted, read_as_all};
use cohortist::sets::parse_string_id;

/// Reads a body as each protocol does.
pub fn check(body: &[u8]) {
    let now = parse_moment("2026-11-23T14:00:00Z").unwrap();
    let first = parse_moment("1990-01-01").unwrap();
    let properties = ["plan".to_owned(), "x".to_owned()];
    for anonymous in [true, false] {
        let wanted = Wanted {
            properties: &properties,
            anonymous,
            now,
        };
        read_as_all(body, &wanted, |parsed| {
            let good = parsed.events.iter().map(|event| event.index);
            let places: Vec<usize> = good.chain(parsed.bad.iter().map(|bad| bad.index)).collect();
            let distinct: BTreeSet<usize> = places.iter().copied().collect();
            assert_eq!(places.len(), distinct.len(), "each event is told once");
            assert!(distinct.last().is_none_or(|last| *last < parsed.len));
            for event in &parsed.events {
                assert_eq!(parse_string_id(&event.user), Ok(&*event.user));
                let is_plausible = |at: &_| (first..=now).contains(at);
                assert!(event.at.as_ref().is_none_or(is_plausible), "{event:?}");
                for (index, value) in &event.properties {
                    assert!(*index < properties.len() && !value.is_empty());
                }
            }
        });
    }
}
