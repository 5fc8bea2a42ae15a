//! Files that are imported: `ingest::Records` and `ingest::Gather`.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};
use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike};
use cohortist::calendar::{Grain, MAX_YEAR, MIN_YEAR, Period};
use cohortist::ingest::{
    Columns, EventFrom, Format, Gather, Layout, Names, Position, Problem, Records, Row, Wish,
};
use cohortist::sets::{EventName, Key, UserId};

use super::import_model::{Expected, Model};
use super::{Dice, cuts};

/// The most places of one file at which reading goes on anew.
const RESUMED: usize = 24;

/// How a file is to be read.
pub struct Manner {
    pub format: Option<Format>,
    pub wishes: Columns,
    /// How many values of each property become events.
    pub most: usize,
}

impl Manner {
    /// By a letter, so that kept inputs can be read: `g`uess, `c`sv, `n`djson, one `e`vent for all
    /// lines, a `p`roperty, some properties that are in each other's way (`q`), columns with
    /// `w`ished names. Any other byte is one of these too.
    fn of(letter: u8) -> Self {
        let place = b"gcnepqw"
            .iter()
            .position(|known| *known == letter)
            .unwrap_or(usize::from(letter) % 7);
        let properties = |names: &[&str]| names.iter().map(|name| Wish::from(*name)).collect();
        let mut manner = Manner {
            format: None,
            wishes: Columns::default(),
            most: 100,
        };
        match place {
            1 => manner.format = Some(Format::Csv),
            2 => manner.format = Some(Format::Ndjson),
            3 => manner.wishes.event = EventFrom::Always(EventName::new("x").unwrap()),
            4 => manner.wishes.properties = properties(&["plan"]),
            5 => {
                manner.wishes.properties = properties(&["a", "a.b", "plan", "properties"]);
                manner.most = 2;
            }
            6 => {
                manner.wishes.user = vec!["o.u".to_owned(), "v".to_owned()];
                manner.wishes.event = EventFrom::Column("e".to_owned());
                manner.wishes.time = Some("t".to_owned());
                manner.wishes.properties = properties(&["o", "plan"]);
            }
            _ => {}
        }
        manner
    }

    fn names(&self) -> Names {
        Names::new(&self.wishes.properties, self.most).unwrap()
    }
}

/// What a line came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Good {
        event: String,
        user: UserId,
        at: i64,
        undated: Vec<String>,
    },
    Bad {
        line: u64,
        reason: String,
    },
}

/// The values of each property that became events.
type Values = Vec<(String, Vec<String>)>;

/// A file that was read to its end.
struct Reading {
    lines: Vec<Line>,
    /// Where reading was before each line and behind the last one, and which values of properties
    /// were met by then.
    places: Vec<(Position, Values)>,
    /// It could not be read on.
    broken: bool,
}

/// The first byte says how the others, a file, are read.
pub fn check(bytes: &[u8]) {
    let Some((letter, file)) = bytes.split_first() else {
        return;
    };
    // The `csv` crate takes away a second byte order mark, which nobody writes.
    if file.starts_with(b"\xEF\xBB\xBF\xEF\xBB\xBF") {
        return;
    }
    let manner = Manner::of(*letter);
    let mut names = manner.names();
    let mut records = match Records::open(file, manner.format, &manner.wishes, &mut names) {
        Ok(records) => records,
        Err(Problem::File(reason)) => {
            assert!(
                !reason.is_empty() && !reason.contains('\n'),
                "refused: {reason}"
            );
            return;
        }
        Err(problem) => panic!("nothing can fail here: {problem}"),
    };
    let layout = records.layout().clone();
    let model = Model::of(file, &manner, &layout, records.position());
    let reading = read(&mut records, &mut names);
    assert!(!reading.broken);
    positions_ascend(&reading, file);
    agrees(&reading.lines, model);
    pieces_agree(&reading, file, &manner, letter);
    it_goes_on_anywhere(&reading, file, &manner, &layout);
    failing_ends_it(&reading, file, &manner);
    gathered_bits_are_those_of_the_rows(&reading.lines);
}

/// A file that is said over and over, and so without its line ends, is read as quickly as it is
/// long: what is done twice for each byte before it takes minutes and not a moment at this size.
pub fn is_quick(bytes: &[u8]) {
    const LONG: usize = 1 << 19;
    let Some((letter, file)) = bytes.split_first().filter(|(_, file)| !file.is_empty()) else {
        return;
    };
    let manner = Manner::of(*letter);
    let head = file
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(file.len(), |end| end + 1);
    let unbroken: Vec<u8> = file[head..]
        .iter()
        .copied()
        .filter(|byte| *byte != b'\n')
        .collect();
    for part in [file, &unbroken, b"\"", b","]
        .into_iter()
        .filter(|part| !part.is_empty())
    {
        let long = [&file[..head], &part.repeat(LONG / part.len())].concat();
        let began = Instant::now();
        let mut names = manner.names();
        if let Ok(mut records) =
            Records::open(long.as_slice(), manner.format, &manner.wishes, &mut names)
        {
            while records.next(&mut names).is_some() {}
        }
        let took = began.elapsed();
        assert!(
            took < Duration::from_secs(60),
            "{took:?} for {LONG} bytes of {}…",
            part[..part.len().min(40)].escape_ascii()
        );
    }
}

/// Reads to the end.
fn read<R: BufRead>(records: &mut Records<R>, names: &mut Names) -> Reading {
    let mut reading = Reading {
        lines: Vec::new(),
        places: vec![(records.position(), names.values())],
        broken: false,
    };
    while let Some(row) = records.next(names) {
        let name = |number: u32| names.get(number).unwrap().as_str().to_owned();
        reading.lines.push(match row {
            Ok(Row { event, user, at }) => {
                let undated = records
                    .properties()
                    .iter()
                    .map(|held| name(held.event))
                    .collect();
                Line::Good {
                    event: name(event),
                    user,
                    at,
                    undated,
                }
            }
            Err(Problem::Line { line, reason, .. }) => Line::Bad { line, reason },
            Err(Problem::File(reason)) => panic!("too late to refuse the file: {reason}"),
            Err(Problem::Read(_)) => {
                assert!(
                    records.next(names).is_none(),
                    "something comes behind an error"
                );
                reading.broken = true;
                break;
            }
        });
        reading.places.push((records.position(), names.values()));
    }
    reading
}

/// Lines and bytes are counted on, to the end of the file and no further, and a bad line is one of
/// those just read.
fn positions_ascend(reading: &Reading, file: &[u8]) {
    let last = Position {
        byte: file.len() as u64,
        line: file.split_inclusive(|byte| *byte == b'\n').count() as u64,
    };
    for (step, line) in reading.places.windows(2).zip(&reading.lines) {
        let (before, behind) = (step[0].0, step[1].0);
        assert!(
            before.byte < behind.byte && before.line <= behind.line,
            "{before:?}, then {behind:?}"
        );
        if let Line::Bad { line, reason } = line {
            assert!(
                before.line < *line && *line <= behind.line,
                "line {line} from {before:?} to {behind:?}: {reason}"
            );
            assert!(
                !reason.is_empty() && !reason.chars().any(char::is_control),
                "{reason:?}"
            );
        }
    }
    for (place, _) in &reading.places {
        assert!(
            place.byte <= last.byte && place.line <= last.line,
            "{place:?} of {last:?}"
        );
    }
}

/// What plain code makes of the same file, by `csv`, `serde_json` and the calendar alone.
fn agrees(lines: &[Line], mut model: Model) {
    for line in lines {
        match (model.next_line(), line) {
            (Expected::Good(expected), found) => assert_eq!(*found, expected),
            (Expected::Bad(expected), Line::Bad { line, .. }) => assert_eq!(*line, expected),
            (Expected::Bad(expected), found) => panic!("line {expected} is taken for {found:?}"),
            // What stands in fields that nobody asked for may be looked at or not.
            (Expected::Either(line), found) => {
                if let Line::Bad { line: found, .. } = found {
                    assert_eq!(*found, line);
                }
                model.follow(found);
            }
            (Expected::End, found) => {
                panic!("there is no further line, and this is one: {found:?}")
            }
        }
    }
    let end = model.next_line();
    assert!(matches!(end, Expected::End), "a line is missing: {end:?}");
}

/// In whatever pieces the bytes come, the same is read.
fn pieces_agree(reading: &Reading, file: &[u8], manner: &Manner, letter: &u8) {
    let mut dice = Dice::of(file);
    for most in [1, 5 + usize::from(*letter % 32)] {
        let pieces = Pieces {
            rest: file,
            piece: dice.roll(most),
            fails: false,
        };
        let mut names = manner.names();
        let mut records = Records::open(pieces, manner.format, &manner.wishes, &mut names).unwrap();
        let again = read(&mut records, &mut names);
        assert_eq!(
            again.lines, reading.lines,
            "in pieces of at most {most} bytes"
        );
        let places = |reading: &Reading| {
            reading
                .places
                .iter()
                .map(|(place, _)| *place)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            places(&again),
            places(reading),
            "in pieces of at most {most} bytes"
        );
    }
}

/// From any place that was reported the rest is read as if nothing had happened.
fn it_goes_on_anywhere(reading: &Reading, file: &[u8], manner: &Manner, layout: &Layout) {
    for at in cuts(reading.lines.len(), RESUMED) {
        let (place, values) = &reading.places[at];
        let mut names = manner.names();
        names.remember(values);
        let rest = &file[usize::try_from(place.byte).unwrap()..];
        // A byte order mark or a quote at the seam is met whole and in pieces.
        let rest = Pieces {
            rest,
            piece: if at % 2 == 0 { usize::MAX } else { 1 },
            fails: false,
        };
        let mut records = Records::resume(rest, layout, &manner.wishes, *place, &mut names);
        let again = read(&mut records, &mut names);
        assert_eq!(again.lines, reading.lines[at..], "from {place:?} on");
        let places = |places: &[(Position, _)]| {
            places
                .iter()
                .map(|(place, _)| *place)
                .collect::<Vec<Position>>()
        };
        assert_eq!(
            places(&again.places),
            places(&reading.places[at..]),
            "from {place:?} on"
        );
    }
}

/// A disk that fails in the middle of a file spoils no line before it, and is no end of the file.
fn failing_ends_it(reading: &Reading, file: &[u8], manner: &Manner) {
    for cut in cuts(file.len(), 3) {
        let pieces = Pieces {
            rest: &file[..cut],
            piece: 16,
            fails: true,
        };
        let mut names = manner.names();
        let mut records = match Records::open(pieces, manner.format, &manner.wishes, &mut names) {
            Ok(records) => records,
            Err(Problem::Read(_)) => continue,
            Err(problem) => panic!("of {cut} bytes and then nothing: {problem}"),
        };
        let part = read(&mut records, &mut names);
        let empty = file.iter().all(u8::is_ascii_whitespace);
        assert!(
            part.broken || empty,
            "the end of {cut} bytes is taken for that of the file"
        );
        assert!(
            reading.lines.starts_with(&part.lines),
            "{:?} in the first {cut} bytes",
            part.lines
        );
    }
}

/// Every row in its hour, day, week and month, and nothing else; users ascend, each once.
fn gathered_bits_are_those_of_the_rows(lines: &[Line]) {
    let mut names = Names::new(&["plan".into()], 1).unwrap();
    let events: BTreeSet<&str> = lines.iter().filter_map(Line::event).collect();
    // Numbers for names are to be had by reading only.
    let numbers: Vec<(String, u32)> = events
        .iter()
        .map(|event| {
            let object =
                serde_json::json!({ "user": 1, "event": event, "timestamp": "2026-11-23" })
                    .to_string();
            let mut records = Records::open(
                object.as_bytes(),
                Some(Format::Ndjson),
                &Columns::default(),
                &mut names,
            )
            .unwrap();
            (
                (*event).to_owned(),
                records.next(&mut names).unwrap().unwrap().event,
            )
        })
        .collect();
    for (hourly, ever) in [(false, false), (true, true)] {
        let mut gather = Gather::new(hourly, ever);
        let mut expected: BTreeSet<(String, UserId)> = BTreeSet::new();
        for line in lines {
            let Line::Good {
                event, user, at, ..
            } = line
            else {
                continue;
            };
            let moment = DateTime::from_timestamp(*at, 0).unwrap();
            assert!((MIN_YEAR..=MAX_YEAR).contains(&moment.year()), "{moment}");
            let number = numbers.iter().find(|(name, _)| name == event).unwrap().1;
            gather.add(
                Row {
                    event: number,
                    user: *user,
                    at: *at,
                },
                &[],
            );
            let name = EventName::new(event).unwrap();
            for grain in Grain::ALL
                .into_iter()
                .filter(|grain| *grain != Grain::Year && (hourly || *grain != Grain::Hour))
            {
                // The first and the last week of all years are not whole.
                if let Ok(period) = Period::containing(grain, moment) {
                    expected.insert((Key::new(name.clone(), period).unwrap().to_string(), *user));
                }
            }
            if ever {
                expected.insert((Key::ever(name).to_string(), *user));
            }
        }
        let bits = gather.drain(&names).bits().unwrap();
        let mut found = BTreeSet::new();
        for (key, users) in bits.groups() {
            assert!(
                users.windows(2).all(|pair| pair[0] < pair[1]),
                "{key}: {users:?}"
            );
            for user in users {
                assert!(
                    found.insert((key.to_string(), *user)),
                    "{key} comes twice with {user}"
                );
            }
        }
        assert_eq!(found, expected);
    }
}

impl Line {
    fn event(&self) -> Option<&str> {
        match self {
            Line::Good { event, .. } => Some(event),
            Line::Bad { .. } => None,
        }
    }
}

/// A reader that gives a few bytes at a time, and perhaps fails behind the last of them.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
    fails: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let some = available.len().min(buffer.len());
        buffer[..some].copy_from_slice(&available[..some]);
        self.consume(some);
        Ok(some)
    }
}

impl BufRead for Pieces<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.is_empty() && self.fails {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(&self.rest[..self.rest.len().min(self.piece)])
    }

    fn consume(&mut self, some: usize) {
        self.rest = &self.rest[some..];
    }
}
