//! Segments and set literals: `str::parse::<Segment>`, `parse_set`, and what the sets they make
//! hold.

use std::sync::Arc;

use cohortist::bitmap::{self, Source, Tile};
use cohortist::calendar::Period;
use cohortist::sets::{
    Catalogue, EventName, Labels, Node, Plan, Segment, Set, SetContext, SyntaxError, labelled,
    parse_set, set_periods,
};

use super::Dice;

/// The period that segments are tied to here.
const MONTH: &str = "2026-11";

/// The bytes are a text that somebody typed into a field, or put into an address.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match text.parse::<Segment>() {
        Err(error) => points_inside(text, &error),
        Ok(segment) => {
            printed_is_read_back(&segment);
            let month: Period = MONTH.parse().unwrap();
            let Ok(set) = segment.at(month, &Catalogue::default()) else {
                return;
            };
            evaluations_agree(text, Some(month), &set);
            // A segment between parentheses, tied to a period, is that segment in that period.
            let literal = format!("({segment})@{MONTH}");
            match parse_set(&literal, SetContext::empty()) {
                Ok(tied) => assert_eq!(tied, set, "{literal}"),
                Err(error) => assert!(too_much(&error), "{literal}: {error}"),
            }
        }
    }
    match parse_set(text, SetContext::empty()) {
        Err(error) => points_inside(text, &error),
        Ok(set) => {
            evaluations_agree(text, None, &set);
            assert!(
                set_periods(text, cohortist::calendar::Zone::UTC).is_ok(),
                "{text}"
            );
        }
    }
    // For people only; it has to come back all the same.
    let active = EventName::new("a").unwrap();
    let labels: Labels = [(active, "Are (very) active".to_owned())].into();
    assert_eq!(labelled(text, &Labels::new()), text);
    labelled(text, &labels);
}

/// Whether it was refused for its size alone.
fn too_much(error: &SyntaxError) -> bool {
    error.message.contains("nest deeper") || error.message.contains("at most")
}

/// The column an error names is one of a character, or the place behind the last one.
fn points_inside(text: &str, error: &SyntaxError) {
    let end = text.chars().count() + 1;
    assert!(
        (1..=end).contains(&error.column),
        "column {} of {end}: {}",
        error.column,
        error.message
    );
    assert!(
        !error.message.is_empty() && !error.message.contains('\n'),
        "{:?}",
        error.message
    );
}

fn printed_is_read_back(segment: &Segment) {
    let printed = segment.to_string();
    match printed.parse::<Segment>() {
        Ok(again) => assert_eq!(&again, segment, "{printed}"),
        Err(error) => panic!("`{printed}` is what a segment prints, and is refused: {error}"),
    }
}

/// Sixty-four people, a bit each.
type People = u64;

/// Who did an event: in a period, or in its undated bitmap.
fn people_of(key: &str) -> People {
    let mut dice = Dice::of(key.as_bytes());
    (0..64).fold(0, |people, _| people << 1 | (dice.roll(2) as u64 & 1))
}

/// Three ways to the people of a set, none of which knows the others, come to the same.
fn evaluations_agree(text: &str, period: Option<Period>, set: &Set) {
    let by_text = of_text(&text.chars().collect::<Vec<_>>(), period);
    assert_eq!(of_set(set), by_text, "the set of `{text}`");
    let mut plan = Plan::new();
    plan.count_set(set).unwrap();
    let keys = plan.nodes().iter().map(|node| match node {
        Node::Key(key) => tile(people_of(&key.to_string())),
        _ => Arc::default(),
    });
    let keys = Bitmaps(keys.collect());
    match bitmap::count(&plan, &keys) {
        Ok(counts) => assert_eq!(
            counts,
            [u64::from(by_text.count_ones())],
            "the plan of `{text}`"
        ),
        Err(never) => match never {},
    }
}

/// As a set says it.
fn of_set(set: &Set) -> People {
    match set {
        Set::Empty => 0,
        Set::Key(key) => people_of(&key.to_string()),
        Set::And(sets) => sets.iter().map(of_set).reduce(|a, b| a & b).unwrap_or(0),
        Set::Or(sets) => sets.iter().map(of_set).fold(0, |a, b| a | b),
        Set::Xor(sets) => sets.iter().map(of_set).fold(0, |a, b| a ^ b),
        Set::Diff(a, b) => of_set(a) & !of_set(b),
        Set::AtLeast(least, sets) => in_at_least(*least, sets.iter().map(of_set)),
        Set::Not(_) => panic!("no text makes a complement"),
    }
}

/// The people who are in at least this many of the sets.
fn in_at_least(least: u32, sets: impl Iterator<Item = People> + Clone) -> People {
    let is_in = |place: &u32| sets.clone().filter(|set| set >> place & 1 == 1).count();
    let enough = (0..64).filter(|place| is_in(place) >= least as usize);
    enough.fold(0, |people, place| people | 1 << place)
}

/// As the text says it: cut at the loosest sign outside of quotes and parentheses, over and over.
/// Only for texts that were read already, so nothing is checked. Without a period names are
/// undated.
fn of_text(text: &[char], period: Option<Period>) -> People {
    let parts = |sign: char| split(text, sign);
    let either = parts('|');
    if either.len() > 1 {
        return either
            .into_iter()
            .map(|part| of_text(part, period))
            .fold(0, |a, b| a | b);
    }
    let odd = parts('^');
    if odd.len() > 1 {
        return odd
            .into_iter()
            .map(|part| of_text(part, period))
            .fold(0, |a, b| a ^ b);
    }
    let mut people = People::MAX;
    for part in parts('&') {
        let bare: Vec<char> = trimmed(part).to_vec();
        let signs = bare
            .iter()
            .take_while(|c| **c == '!' || c.is_whitespace())
            .filter(|c| **c == '!')
            .count();
        let start = bare
            .iter()
            .take_while(|c| **c == '!' || c.is_whitespace())
            .count();
        let found = of_operand(&bare[start..], period);
        people &= if signs % 2 == 1 { !found } else { found };
    }
    people
}

/// A name or something between parentheses, with or without a period behind it.
fn of_operand(text: &[char], period: Option<Period>) -> People {
    let (text, period) = match split(text, '@')[..] {
        [inner, when] => {
            let when: String = trimmed(when).iter().collect();
            let ever = when == "ever";
            (
                trimmed(inner),
                if ever {
                    None
                } else {
                    Some(when.parse::<Period>().unwrap())
                },
            )
        }
        _ => (trimmed(text), period),
    };
    if let ['(', inner @ .., ')'] = text {
        return of_text(inner, period);
    }
    if let Some(people) = of_function(text, period) {
        return people;
    }
    if text.last() == Some(&'*') {
        // No event exists, so none begins like this.
        return 0;
    }
    let name: String = match text {
        ['"', inner @ .., '"'] => {
            let mut escaped = false;
            inner
                .iter()
                .filter(|c| {
                    escaped = **c == '\\' && !escaped;
                    !escaped
                })
                .collect()
        }
        _ => text.iter().collect(),
    };
    let name = EventName::new(&name).unwrap();
    of_set(&period.map_or_else(|| Set::ever(&name), |period| Set::event_in(&name, period)))
}

/// A function, in a store in which nothing is recorded before its period.
fn of_function(text: &[char], period: Option<Period>) -> Option<People> {
    let open = text.iter().position(|c| *c == '(')?;
    let name: String = text[..open].iter().collect();
    if !["before", "first", "within", "atleast"].contains(&name.as_str()) {
        return None;
    }
    let period = period.expect("a function has a period");
    let arguments = split(&text[open + 1..text.len() - 1], ',');
    let around = |of: &[char], range: &[char]| -> Vec<People> {
        let range: String = trimmed(range).iter().collect();
        let (from, until) = range.split_once("..").unwrap();
        let offsets = from.parse::<i64>().unwrap()..=until.parse().unwrap();
        let periods = offsets.filter_map(|by| period.shift(by).ok());
        periods.map(|at| of_text(of, Some(at))).collect()
    };
    Some(match (name.as_str(), &arguments[..]) {
        ("before", [_]) => 0,
        ("first", [of]) => of_text(of, Some(period)),
        ("within", [of, range]) => around(of, range).into_iter().fold(0, |a, b| a | b),
        ("atleast", [least, of, range]) => {
            let least: String = trimmed(least).iter().collect();
            in_at_least(least.parse().unwrap(), around(of, range).into_iter())
        }
        _ => panic!("a function has its arguments"),
    })
}

fn trimmed(text: &[char]) -> &[char] {
    let start = text.iter().take_while(|c| c.is_whitespace()).count();
    let end = text.iter().rev().take_while(|c| c.is_whitespace()).count();
    text.get(start..text.len() - end).unwrap_or_default()
}

/// Cut at each such sign that stands neither in quotes nor in parentheses.
fn split(text: &[char], sign: char) -> Vec<&[char]> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.iter().enumerate() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' => depth -= 1,
            c if *c == sign && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Tiles of the keys of a plan, by the number of their node.
struct Bitmaps(Vec<Arc<Tile>>);

enum Never {}

impl Source for Bitmaps {
    type Error = Never;

    fn byte_len(&self, _: usize) -> u64 {
        8
    }

    fn users(&self, _: usize) -> Option<u64> {
        None
    }

    fn tiles(&self, _: usize) -> &[u16] {
        &[0]
    }

    fn tile(&self, leaf: usize, _: u16) -> Result<Arc<Tile>, Never> {
        Ok(self.0[leaf].clone())
    }
}

fn tile(people: People) -> Arc<Tile> {
    let mut tile = Tile::default();
    (0..64).for_each(|place| {
        tile.set(place, people >> place & 1 == 1);
    });
    Arc::new(tile)
}
