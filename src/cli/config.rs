//! `cohortist.toml`: what a dashboard is called, which stores it shows, and how it speaks of what is in them.
//!
//! Text in, [`File`] out: whatever is wrong in it is said at once, each fault with its line and key. Nothing of a value
//! is repeated, as it may be an address with a password.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::Spanned;
use url::form_urlencoded;

use crate::cli::output::Usage;
use crate::clock::Clock;
use crate::sets::{EventName, Prefix, Segment, Segments};
use crate::store::Place;
use crate::web::query::{Asked, Field, Typed};
use crate::web::{Glossary, Pattern};

/// The file that is read when it is there and no other is named.
pub const DEFAULT_FILE: &str = "cohortist.toml";

/// The longest title, in characters: it stands in every page's head.
const MAX_TITLE: usize = 60;

/// The longest label of an event, in characters.
const MAX_LABEL: usize = 120;

/// What a file says, checked.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// Where it was read from; empty without one.
    pub name: String,
    pub title: Option<String>,
    pub read_only: bool,
    /// In the order of the file: the first is the default.
    pub stores: Vec<Entry>,
    pub glossary: Glossary,
    pub segments: Segments,
    pub question: Option<Asked>,
}

/// A store of the file.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    /// As on the command line.
    pub store: String,
    pub prefix: Option<Prefix>,
    pub read_only: bool,
}

impl File {
    /// Reads the file that was named, or else, where `unasked` allows it, the default one if there is one.
    pub fn find(named: Option<&Path>, unasked: bool, clock: Clock) -> Result<File, Usage> {
        if named.is_none() && !unasked {
            return Ok(File::default());
        }
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => File::read(&shown, &text, clock, |name| std::env::var(name).ok()).map_err(|faults| {
                let lines: Vec<String> = faults.iter().map(|fault| fault.told(&shown)).collect();
                Usage(lines.join("\n"))
            }),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
            Err(error) => Err(Usage(format!("--config: cannot read {shown}: {error}"))),
        }
    }

    /// Reads a file's text. `variable` looks up a variable of the environment, for stores such as `"$REDIS_URL"`.
    pub fn read(
        name: &str,
        text: &str,
        clock: Clock,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<File, Vec<Fault>> {
        let written: Written = toml::from_str(text).map_err(|error| vec![Fault::of(text, &error)])?;
        let mut reading = Reading { text, faults: Vec::new() };
        let file = File {
            name: name.to_owned(),
            title: written.title.and_then(|title| reading.words("title", title, MAX_TITLE)),
            read_only: written.read_only,
            stores: reading.stores(written.stores.0, written.read_only, variable),
            glossary: Glossary {
                labels: reading.labels(written.labels.0),
                groups: reading.groups(written.groups.0),
                hidden: written.hidden.into_iter().filter_map(|pattern| reading.pattern("hidden", pattern)).collect(),
            },
            segments: reading.segments(written.segments.0),
            question: written.question.and_then(|question| reading.question(&question, clock)),
        };
        let mut faults = reading.faults;
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() { Ok(file) } else { Err(faults) }
    }

    /// What is in it, in a few words.
    pub fn summary(&self) -> String {
        let many = |count: usize, noun: &str| crate::render::many(count as u64, noun);
        let glossary = &self.glossary;
        let labels = glossary.labels.len();
        let parts = [
            (self.stores.len(), "store"),
            (self.segments.iter().count(), "saved segment"),
            (labels, "label"),
            (glossary.groups.len(), "group"),
        ];
        let mut said: Vec<String> =
            parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, noun)| many(count, noun)).collect();
        said.extend(self.question.as_ref().map(|asked| format!("the question {} → {}", asked.cohort, asked.returning)));
        said.extend(self.read_only.then(|| "read-only".to_owned()));
        if said.is_empty() { "nothing but defaults".to_owned() } else { said.join(", ") }
    }
}

/// What is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1.
    line: usize,
    /// `segments.mobile`
    key: String,
    message: String,
}

impl Fault {
    fn told(&self, file: &str) -> String {
        let key = if self.key.is_empty() { String::new() } else { format!(" `{}`:", self.key) };
        format!("{file}, line {}:{key} {}", self.line, self.message)
    }

    /// What the TOML reader complains about. Its own report shows the line, and with it perhaps a password.
    fn of(text: &str, error: &toml::de::Error) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        let line = line_of(text, at);
        let written = text.lines().nth(line - 1).unwrap_or_default();
        let key = written.split_once('=').map_or("", |(key, _)| key.trim()).to_owned();
        let mut message = error.message().lines().collect::<Vec<_>>().join("; ");
        // A string in the wrong place may be a store's address.
        if let (Some(from), Some(to)) = (message.find("string \""), message.rfind("\", expected")) {
            message.replace_range(from..=to, "a string");
        }
        Fault { line, key, message }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: Option<Spanned<String>>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    hidden: Vec<Spanned<String>>,
    #[serde(default)]
    stores: Pairs<StoreText>,
    question: Option<QuestionText>,
    #[serde(default)]
    labels: Pairs<Spanned<String>>,
    #[serde(default)]
    groups: Pairs<Vec<Spanned<String>>>,
    #[serde(default)]
    segments: Pairs<Spanned<String>>,
}

/// A store: its text alone, or with more.
struct StoreText {
    store: String,
    prefix: Option<String>,
    read_only: Option<bool>,
}

impl<'de> Deserialize<'de> for StoreText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            store: String,
            prefix: Option<String>,
            read_only: Option<bool>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = StoreText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a store such as \"redis://host:6379/0\", or { store = \"…\", prefix = \"…\", read_only = true }",
                )
            }

            fn visit_str<E>(self, store: &str) -> Result<StoreText, E> {
                Ok(StoreText { store: store.to_owned(), prefix: None, read_only: None })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<StoreText, M::Error> {
                let whole = Whole::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(StoreText { store: whole.store, prefix: whole.prefix, read_only: whole.read_only })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The question of the front page, as in addresses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionText {
    cohort: Spanned<String>,
    returning: Spanned<String>,
    #[serde(default)]
    cohort_and: Vec<Spanned<String>>,
    #[serde(default)]
    returning_and: Vec<Spanned<String>>,
    range: Option<Spanned<String>>,
    by: Option<Spanned<String>>,
    rows: Option<Spanned<u32>>,
    cols: Option<Spanned<u32>>,
    measure: Option<Spanned<String>>,
    #[serde(rename = "as")]
    show: Option<Spanned<String>>,
    average: Option<Spanned<String>>,
    order: Option<Spanned<String>>,
    scale: Option<Spanned<String>>,
}

/// A table in the order of its lines.
struct Pairs<V>(Vec<(Spanned<String>, V)>);

impl<V> Default for Pairs<V> {
    fn default() -> Self {
        Pairs(Vec::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for All<V> {
            type Value = Pairs<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs<V>, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry::<Spanned<String>, V>()? {
                    pairs.push(pair);
                }
                // The reader sorts keys; the file's order says which store comes first.
                pairs.sort_by_key(|(key, _)| key.span().start);
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(All(PhantomData))
    }
}

/// A file being checked: goes on after a fault, to tell all of them.
struct Reading<'a> {
    text: &'a str,
    faults: Vec<Fault>,
}

impl Reading<'_> {
    fn fault(&mut self, at: Range<usize>, key: impl Into<String>, message: impl Into<String>) {
        let line = line_of(self.text, at.start);
        self.faults.push(Fault { line, key: key.into(), message: message.into() });
    }

    /// Words for people: neither empty nor endless, on one line.
    fn words(&mut self, key: &str, text: Spanned<String>, most: usize) -> Option<String> {
        let (at, words) = (text.span(), text.into_inner().trim().to_owned());
        if words.is_empty() || words.chars().count() > most || words.contains(char::is_control) {
            self.fault(at, key, format!("write 1 to {most} characters on one line"));
            return None;
        }
        Some(words)
    }

    fn event(&mut self, table: &str, name: &Spanned<String>) -> Option<EventName> {
        let key = format!("{table}.{}", name.get_ref());
        EventName::new(name.get_ref()).map_err(|error| self.fault(name.span(), key, error.to_string())).ok()
    }

    fn pattern(&mut self, key: &str, text: Spanned<String>) -> Option<Pattern> {
        let beginning = text.get_ref().strip_suffix('*').unwrap_or(text.get_ref());
        if text.get_ref() != "*"
            && let Err(error) = EventName::new(beginning)
        {
            self.fault(text.span(), key, format!("{error}; write a name, or its beginning and a `*`"));
            return None;
        }
        Some(Pattern::new(text.into_inner()))
    }

    fn stores(
        &mut self,
        pairs: Vec<(Spanned<String>, StoreText)>,
        read_only: bool,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Vec<Entry> {
        let (mut stores, mut paths) = (Vec::new(), BTreeSet::new());
        for (name, entry) in pairs {
            let key = format!("stores.{}", name.get_ref());
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.get_ref().is_empty() || name.get_ref().len() > 40 || !name.get_ref().chars().all(plain) {
                let message = "a store's name stands in addresses: write 1 to 40 of A–Z, a–z, 0–9, - and _";
                self.fault(name.span(), key, message);
                continue;
            }
            let text = match entry.store.strip_prefix('$') {
                Some(from) => match variable(from).filter(|value| !value.is_empty()) {
                    Some(value) => value,
                    None => {
                        self.fault(name.span(), key, format!("the environment has no variable {from}"));
                        continue;
                    }
                },
                None => entry.store,
            };
            match Place::parse(&text) {
                Err(error) => self.fault(name.span(), &key, error.to_string()),
                Ok(Place::Directory(path)) if !paths.insert(path.to_owned()) => {
                    self.fault(name.span(), &key, "another store of this file is at the same path");
                }
                Ok(_) => {}
            }
            stores.push(Entry {
                name: name.into_inner(),
                store: text,
                prefix: entry.prefix.as_deref().map(Prefix::new),
                read_only: entry.read_only.unwrap_or(read_only),
            });
        }
        stores
    }

    fn labels(
        &mut self,
        pairs: Vec<(Spanned<String>, Spanned<String>)>,
    ) -> std::collections::BTreeMap<EventName, String> {
        let read = |(name, label): (Spanned<String>, Spanned<String>)| {
            let key = format!("labels.{}", name.get_ref());
            Some((self.event("labels", &name)?, self.words(&key, label, MAX_LABEL)?))
        };
        pairs.into_iter().filter_map(read).collect()
    }

    fn groups(&mut self, pairs: Vec<(Spanned<String>, Vec<Spanned<String>>)>) -> Vec<(String, Vec<Pattern>)> {
        let mut groups = Vec::new();
        for (name, members) in pairs {
            let key = format!("groups.{}", name.get_ref());
            let members = members.into_iter().filter_map(|member| self.pattern(&key, member)).collect();
            groups.extend(self.words(&key, name, MAX_LABEL).map(|name| (name, members)));
        }
        groups
    }

    fn segments(&mut self, pairs: Vec<(Spanned<String>, Spanned<String>)>) -> Segments {
        let mut named = Vec::new();
        for (name, text) in pairs {
            let key = format!("segments.{}", name.get_ref());
            let Some(event) = self.event("segments", &name) else { continue };
            match text.get_ref().parse::<Segment>() {
                Ok(segment) => named.push((event, name.span(), segment)),
                Err(error) => self.fault(text.span(), key, error.to_string()),
            }
        }
        let segments = named.iter().map(|(name, _, segment)| (name.clone(), segment.clone()));
        Segments::new(segments).unwrap_or_else(|error| {
            let at = named.iter().find(|(name, ..)| name == error.name()).map_or(0..0, |(_, at, _)| at.clone());
            self.fault(at, format!("segments.{}", error.name()), error.to_string());
            Segments::default()
        })
    }

    fn question(&mut self, written: &QuestionText, clock: Clock) -> Option<Asked> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut places: Vec<(Field, Range<usize>)> = Vec::new();
        let mut put = |field: Field, value: Option<(&str, Range<usize>)>| {
            if let Some((value, at)) = value {
                query.append_pair(field.name(), value);
                places.push((field, at));
            }
        };
        fn text(value: &Spanned<String>) -> Option<(&str, Range<usize>)> {
            Some((value.get_ref(), value.span()))
        }
        put(Field::Cohort, text(&written.cohort));
        put(Field::Returning, text(&written.returning));
        written.cohort_and.iter().enumerate().for_each(|(i, value)| put(Field::CohortAnd(i), text(value)));
        written.returning_and.iter().enumerate().for_each(|(i, value)| put(Field::ReturningAnd(i), text(value)));
        for (field, value) in [
            (Field::Range, &written.range),
            (Field::By, &written.by),
            (Field::Measure, &written.measure),
            (Field::As, &written.show),
            (Field::Average, &written.average),
            (Field::Order, &written.order),
            (Field::Scale, &written.scale),
        ] {
            put(field, value.as_ref().and_then(text));
        }
        for (field, value) in [(Field::Rows, &written.rows), (Field::Cols, &written.cols)] {
            let number = value.as_ref().map(|value| (value.get_ref().to_string(), value.span()));
            put(field, number.as_ref().map(|(value, at)| (&**value, at.clone())));
        }
        let now = clock.now();
        let asked = Typed::read(&query.finish()).carried_out(now).check().and_then(|asked| {
            let limits = asked.query().at(now).map_err(|error| vec![crate::web::query::Problem::of_query(&error)]);
            limits.map(|_| asked)
        });
        asked
            .map_err(|problems| {
                for problem in problems {
                    let at = places.iter().find(|(field, _)| *field == problem.field).map(|(_, at)| at.clone());
                    let at = at.unwrap_or(written.cohort.span());
                    self.fault(at, format!("question.{}", problem.field.name()), problem.message);
                }
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;

    fn read(text: &str) -> Result<File, String> {
        let clock = Clock::Fixed(parse_moment("2026-11-23T14:05:00Z").unwrap());
        let variable = |name: &str| (name == "PROD").then(|| "redis://:hunter2@db:6379/0".to_owned());
        let faults = |faults: Vec<Fault>| faults.iter().map(|f| f.told("c.toml")).collect::<Vec<_>>().join("\n");
        File::read("c.toml", text, clock, variable).map_err(faults)
    }

    #[test]
    fn a_whole_file_is_read_in_its_order() {
        let file = read(
            r#"
title = "Acme"
hidden = ["demo:*"]

[stores]
production = "$PROD"
archive = { store = "./old.db", prefix = "bitmapist_", read_only = true }

[question]
cohort = "signup"
returning = "active"
returning_and = ["mobile"]
range = "12w"
as = "count"

[labels]
active = "Are active"
"song:played" = "Listened"

[groups]
Zeal = ["active"]
Places = ["country:*"]

[segments]
mobile = "ios | android"
"#,
        )
        .unwrap();
        let stores: Vec<_> = file.stores.iter().map(|s| (&*s.name, &*s.store, s.read_only)).collect();
        assert_eq!(stores, [("production", "redis://:hunter2@db:6379/0", false), ("archive", "./old.db", true)]);
        assert_eq!(file.title.as_deref(), Some("Acme"));
        let question = file.question.as_ref().unwrap().canonical();
        assert_eq!(question, "cohort=signup&returning=active&returning_and=mobile&by=week&as=count");
        assert_eq!(file.glossary.groups[0].0, "Zeal");
        assert_eq!(file.summary(), "2 stores, 1 saved segment, 2 labels, 2 groups, the question signup → active");
        assert_eq!(read("").unwrap().summary(), "nothing but defaults");
    }

    #[test]
    fn the_readmes_example_is_one() {
        let readme = include_str!("../../README.md");
        let example = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let clock = Clock::Fixed(parse_moment("2026-11-23").unwrap());
        // It can be pasted as it is, whatever the environment holds.
        let file = File::read("cohortist.toml", example, clock, |_| None);
        assert_eq!(
            file.unwrap().summary(),
            "1 store, 2 saved segments, 1 label, 1 group, the question signup → active"
        );
    }

    #[test]
    fn every_fault_is_told_with_line_and_key_and_no_password() {
        let told = |texts: &[&str]| texts.iter().map(|text| read(text).unwrap_err()).collect::<Vec<_>>().join("\n");
        let of_the_reader = told(&[
            "titel = \"x\"",
            "[stores]\nprod = { store = \"redis://:hunter2@h\", prefx = \"x\" }",
            "[stores]\nprod = 3",
            "stores = \"redis://:hunter2@h\"",
            "a = \n",
            "[labels]\na = \"x\"\na = \"y\"",
            "[question]\ncohort = \"a\"",
        ]);
        insta::assert_snapshot!(of_the_reader, @r#"
c.toml, line 1: `titel`: unknown field `titel`, expected one of `title`, `read_only`, `hidden`, `stores`, `question`, `labels`, `groups`, `segments`
c.toml, line 2: `prod`: unknown field `prefx`, expected one of `store`, `prefix`, `read_only`
c.toml, line 2: `prod`: invalid type: integer `3`, expected a store such as "redis://host:6379/0", or { store = "…", prefix = "…", read_only = true }
c.toml, line 1: `stores`: invalid type: a string, expected a table
c.toml, line 1: `a`: string values must be quoted, expected literal string
c.toml, line 3: `a`: duplicate key
c.toml, line 1: missing field `returning`
"#);
        let our_own = told(&[
            "title = \"\"\nhidden = [\"a\\n*\"]\n[stores]\n\"a b\" = \"x\"\nc = \"http://:hunter2@x\"\nd = \"./x\"\ne = \"./x\"\n\
             f = \"$NO\"\n[labels]\n\"\" = \"x\"\nb = \" \"\n[segments]\nm = \"ios |\"\nx = \"y\"\ny = \"x\"\n[question]\n\
             cohort = \"signup &\"\nreturning = \"active\"\nby = \"fortnight\"\nrows = 0\nreturning_and = [\"a\", \"(\"]",
            "[question]\ncohort = \"a\"\nreturning = \"b\"\nrows = 400\ncols = 400",
        ]);
        insta::assert_snapshot!(our_own, @r"
c.toml, line 1: `title`: write 1 to 60 characters on one line
c.toml, line 2: `hidden`: an event name must not hold control characters; `a\n` holds U+000A at character 2; write a name, or its beginning and a `*`
c.toml, line 4: `stores.a b`: a store's name stands in addresses: write 1 to 40 of A–Z, a–z, 0–9, - and _
c.toml, line 5: `stores.c`: `http://…@x` is not a store: give a path (./cohortist.db), memory:, redis://host:6379/0, rediss://… (TLS) or redis+unix:///path/to/redis.sock
c.toml, line 7: `stores.e`: another store of this file is at the same path
c.toml, line 8: `stores.f`: the environment has no variable NO
c.toml, line 10: `labels.`: an event name must not be empty
c.toml, line 11: `labels.b`: write 1 to 120 characters on one line
c.toml, line 13: `segments.m`: column 6: expected an event name or `(`, found the end
c.toml, line 14: `segments.x`: the saved segment `x` is made of itself: x → y → x
c.toml, line 17: `question.cohort`: column 9: expected an event name or `(`, found the end
c.toml, line 19: `question.by`: `fortnight` is not a period: write hour, day, week, month or year
c.toml, line 20: `question.rows`: `0` does not fit: ask for a whole number from 1 to 400
c.toml, line 21: `question.returning_and`: column 2: expected an event name or `(`, found the end
c.toml, line 4: `question.rows`: 400 cohorts × 400 periods are 160000 cells, and a table holds at most 20000: ask for fewer of either
");
        assert!(!of_the_reader.contains("hunter2") && !our_own.contains("hunter2"));
    }
}
