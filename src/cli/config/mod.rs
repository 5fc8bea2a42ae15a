//! `cohortist.toml`: what a dashboard is called, which stores it shows, and how it speaks of what
//! is in them.
//!
//! Text in, [`File`] out: whatever is wrong in it is said at once, each fault with its line and
//! key. Nothing of a value is repeated, as it may be an address with a password.

mod expiry;
mod spanned_toml;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use chrono::NaiveTime;
use toml::de::DeTable;
use url::form_urlencoded;

use crate::cli::expire::Expiry;
use crate::cli::output::Usage;
use crate::clock::Clock;
use crate::server::query::{Field, PageQuery, Problem, RawQuery};
use crate::server::{Glossary, Hosts, Pattern};
use crate::sets::{EventName, Prefix, Segment, Segments};
use crate::store::Place;
use spanned_toml::{MAX_TOLD, SpannedToml, Table, TomlError, Words};

/// The file that is read when it is there and no other is named.
pub const DEFAULT_FILE: &str = "cohortist.toml";

/// The longest title, in characters: it stands in every page's head.
const MAX_TITLE: usize = 60;

/// The longest label of an event, in characters.
const MAX_LABEL: usize = 120;

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

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
    pub question: Option<PageQuery>,
    /// How long bitmaps are kept of stores that say nothing else.
    pub expire: Expiry,
    /// When of a day, in UTC, `serve` deletes what has been kept that long.
    pub expire_at: NaiveTime,
    /// The names `serve` answers to.
    pub hosts: Hosts,
}

/// A store of the file.
#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    /// As on the command line.
    pub store: String,
    pub prefix: Option<Prefix>,
    pub read_only: bool,
    /// Its own, or that of the file.
    pub expire: Expiry,
}

impl File {
    /// Reads the file that was named, or else, where `unasked` allows it, the default one if there
    /// is one.
    pub fn find(named: Option<&Path>, unasked: bool, clock: Clock) -> Result<File, Usage> {
        if named.is_none() && !unasked {
            return Ok(File::default());
        }
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let shown = path.display().to_string();
        match bytes(path) {
            Ok(text) => File::read(&shown, &text, clock, |name| std::env::var(name).ok())
                .map_err(|faults| Usage(told(&shown, &faults))),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(File::default())
            }
            Err(error) => Err(Usage(format!("--config: cannot read {shown}: {error}"))),
        }
    }

    /// Reads a file's text. `variable` looks up a variable of the environment, for stores such as
    /// `"$REDIS_URL"`.
    pub fn read(
        name: &str,
        text: impl AsRef<[u8]>,
        clock: Clock,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<File, Vec<TomlError>> {
        let bytes = text.as_ref();
        let text = String::from_utf8_lossy(bytes);
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut reading = SpannedToml::begin(&text, &errors);
        let told = reading.faults.len();
        let mut whole = Table::new("", 0, table.get_ref());
        let title = whole
            .take("title")
            .and_then(|title| reading.words("title", title));
        let read_only = whole
            .take("read_only")
            .and_then(|entry| Some((reading.flag("read_only", entry)?, entry.at())));
        let hidden = whole
            .take("hidden")
            .and_then(|hidden| reading.list("hidden", hidden))
            .unwrap_or_default();
        let mut table = |name: &'static str, wanted: &str| {
            let entry = whole.take(name)?;
            reading.table(name, entry, wanted)
        };
        let stores = table("stores", "a table, [stores], with a line for each");
        let question = table("question", "a table, [question]");
        let labels = table("labels", "a table, [labels], with a line for each");
        let groups = table("groups", "a table, [groups], with a line for each");
        let segments = table("segments", "a table, [segments], with a line for each");
        let expire = table("expire", expiry::WANTED);
        let server = table(
            "server",
            "a table, [server], with a line such as hosts = [\"stats.example.org\"]",
        );
        reading.end(whole);
        let kept = expire.map(|table| reading.kept(table)).unwrap_or_default();
        let stores = stores
            .map(|table| reading.stores(table, read_only, &kept.expiry, variable))
            .unwrap_or_default();
        reading.kept_something(&kept, &stores);
        let file = File {
            name: name.to_owned(),
            title: title.and_then(|title| reading.line("title", title, MAX_TITLE)),
            read_only: read_only.is_some_and(|(flag, _)| flag),
            stores,
            glossary: Glossary {
                labels: labels
                    .map(|table| reading.labels(table))
                    .unwrap_or_default(),
                groups: groups
                    .map(|table| reading.groups(table))
                    .unwrap_or_default(),
                hidden: hidden
                    .into_iter()
                    .filter_map(|pattern| reading.pattern("hidden", pattern))
                    .collect(),
            },
            segments: segments
                .map(|table| reading.segments(table))
                .unwrap_or_default(),
            question: question.and_then(|table| reading.question(table, clock)),
            expire: kept.expiry,
            expire_at: kept.at,
            hosts: server.map(|table| reading.hosts(table)).unwrap_or_default(),
        };
        let mut faults = reading.faults;
        let others = faults.split_off(told);
        let is_readable = |fault: &TomlError| !reading.unreadable.contains(&fault.line);
        faults.extend(others.into_iter().filter(is_readable));
        faults.extend(not_utf8(bytes));
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() {
            Ok(file)
        } else {
            Err(faults)
        }
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
        let mut said: Vec<String> = parts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, noun)| many(count, noun))
            .collect();
        said.extend(self.question.as_ref().map(|asked| {
            format!(
                "the question {} → {}",
                asked.bare.cohort, asked.bare.returning
            )
        }));
        let kept = &self.expire.words;
        let hosts = self.hosts.to_string();
        said.extend((!hosts.is_empty()).then(|| format!("for {hosts}")));
        said.extend((!kept.is_empty()).then(|| format!("kept for {kept}")));
        said.extend(self.read_only.then(|| "read-only".to_owned()));
        if said.is_empty() {
            "nothing but defaults".to_owned()
        } else {
            said.join(", ")
        }
    }
}

/// The bytes of a configuration file.
///
/// # Errors
/// When it cannot be read, or is something else. Reading a pipe might never end.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        let most = MAX_SIZE >> 20;
        return Err(io::Error::other(format!(
            "it is larger than {most} MiB, and so not a configuration file"
        )));
    }
    Ok(bytes)
}

/// The mistakes of a file, a line each: the first ones, and how many more there are.
fn told(file: &str, faults: &[TomlError]) -> String {
    let mut lines: Vec<String> = faults
        .iter()
        .take(MAX_TOLD)
        .map(|fault| fault.told(file))
        .collect();
    let others = faults.len().saturating_sub(MAX_TOLD);
    if others > 0 {
        let others = crate::render::many(others as u64, "more mistake");
        lines.push(format!("{file}: {others}; is this a configuration file?"));
    }
    lines.join("\n")
}

/// What `[question]` says beside its lists of filters: what an address can say.
const QUESTION: [Field; 14] = [
    Field::Cohort,
    Field::Returning,
    Field::Range,
    Field::By,
    Field::Rows,
    Field::Cols,
    Field::From,
    Field::To,
    Field::Measure,
    Field::As,
    Field::Average,
    Field::Order,
    Field::Scale,
    Field::Trend,
];

/// Every line that is not UTF-8.
fn not_utf8(bytes: &[u8]) -> Vec<TomlError> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let fault = |(i, line): (usize, &[u8])| {
        let at = std::str::from_utf8(line).err()?.valid_up_to();
        let message = format!(
            "byte {} of this line is not UTF-8: save the file as UTF-8",
            at + 1
        );
        let key = String::from_utf8_lossy(line)
            .split_once('=')
            .map_or(String::new(), |(key, _)| key.trim().to_owned());
        Some(TomlError {
            line: i + 1,
            key,
            message,
        })
    };
    lines.filter_map(fault).collect()
}

impl SpannedToml<'_> {
    /// Words for people: neither empty nor endless, on one line.
    fn line(&mut self, key: &str, words: Words, most: usize) -> Option<String> {
        let text = words.text.trim();
        if text.is_empty() || text.chars().count() > most || text.contains(char::is_control) {
            self.fault(
                words.at,
                key,
                format!("write 1 to {most} characters on one line"),
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn event(&mut self, key: &str, name: &str, at: usize) -> Option<EventName> {
        EventName::new(name)
            .map_err(|error| self.fault(at, key, error.to_string()))
            .ok()
    }

    fn pattern(&mut self, key: &str, words: Words) -> Option<Pattern> {
        let beginning = words.text.strip_suffix('*').unwrap_or(&words.text);
        if words.text != "*"
            && let Err(error) = EventName::new(beginning)
        {
            self.fault(
                words.at,
                key,
                format!("{error}; write a name, or its beginning and a `*`"),
            );
            return None;
        }
        Some(Pattern::new(words.text))
    }

    /// `[server]`: the names it answers to.
    fn hosts(&mut self, mut table: Table<'_>) -> Hosts {
        let key = table.inside("hosts");
        let names = table
            .take("hosts")
            .and_then(|entry| self.list(&key, entry))
            .unwrap_or_default();
        self.end(table);
        let name = |words: Words| {
            words
                .text
                .parse()
                .map_err(|error: String| self.fault(words.at, &key, error))
                .ok()
        };
        names.into_iter().filter_map(name).collect()
    }

    fn stores(
        &mut self,
        table: Table<'_>,
        read_only: Option<(bool, usize)>,
        kept: &Expiry,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Vec<Entry> {
        let (mut stores, mut paths) = (Vec::new(), BTreeSet::new());
        for (key, entry) in table.keyed() {
            let (name, at) = (entry.name, entry.at());
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let named = !name.is_empty() && name.len() <= 40 && name.chars().all(plain);
            if !named {
                let message =
                    "a store's name stands in addresses: write 1 to 40 of A–Z, a–z, 0–9, - and _";
                self.fault(at, &key, message);
            }
            let (mut prefix, mut own_read_only, mut own_kept) = (None, None, None);
            let store = if entry.is_text() {
                self.words(&key, entry)
            } else {
                let wanted = "a store such as \"redis://host:6379/0\", or { store = \"…\", prefix = \"…\", read_only = true }";
                let Some(mut table) = self.table(&key, entry, wanted) else {
                    continue;
                };
                let inside = table.inside("store");
                let store = match table.take("store") {
                    Some(store) => self.words(&inside, store),
                    None => {
                        self.missing(
                            at,
                            &inside,
                            "say where the store is, such as store = \"redis://host:6379/0\"",
                        );
                        None
                    }
                };
                let inside = table.inside("prefix");
                prefix = table
                    .take("prefix")
                    .and_then(|prefix| self.words(&inside, prefix));
                let inside = table.inside("read_only");
                own_read_only = table
                    .take("read_only")
                    .and_then(|entry| Some((self.flag(&inside, entry)?, entry.at())));
                own_kept = self.kept_of_store(&mut table, read_only.or(own_read_only));
                self.end(table);
                if let (Some((true, global)), Some((false, own))) = (read_only, own_read_only) {
                    let message = format!(
                        "line {} makes every store read-only, so this cannot be false: leave one of the two out",
                        self.line_of(global)
                    );
                    self.fault(own, inside, message);
                }
                store
            };
            let Some(Words { text, .. }) = store else {
                continue;
            };
            let text = match text.strip_prefix('$') {
                Some(from) => match variable(from).filter(|value| !value.is_empty()) {
                    Some(value) => value,
                    None => {
                        self.fault(at, key, format!("the environment has no variable {from}"));
                        continue;
                    }
                },
                None => text,
            };
            match Place::parse(&text) {
                Err(error) => self.fault(at, &key, error.to_string()),
                Ok(Place::Directory(path)) if !paths.insert(path.to_owned()) => {
                    self.fault(at, &key, "another store of this file is at the same path");
                }
                Ok(_) => {}
            }
            let says = |flag: Option<(bool, usize)>| flag.is_some_and(|(flag, _)| flag);
            stores.push(Entry {
                name: name.to_owned(),
                store: text,
                prefix: prefix.map(|prefix| Prefix::new(&prefix.text)),
                read_only: says(read_only) || says(own_read_only),
                expire: own_kept.unwrap_or_else(|| kept.clone()),
            });
        }
        stores
    }

    fn labels(&mut self, table: Table<'_>) -> BTreeMap<EventName, String> {
        let mut labels = BTreeMap::new();
        for (key, entry) in table.keyed() {
            let name = self.event(&key, entry.name, entry.at());
            let label = self
                .words(&key, entry)
                .and_then(|label| self.line(&key, label, MAX_LABEL));
            labels.extend(name.zip(label));
        }
        labels
    }

    fn groups(&mut self, table: Table<'_>) -> Vec<(String, Vec<Pattern>)> {
        let mut groups = Vec::new();
        for (key, entry) in table.keyed() {
            let members = self.list(&key, entry).unwrap_or_default();
            let members = members
                .into_iter()
                .filter_map(|member| self.pattern(&key, member))
                .collect();
            let name = Words {
                text: entry.name.to_owned(),
                at: entry.at(),
            };
            groups.extend(self.line(&key, name, MAX_LABEL).map(|name| (name, members)));
        }
        groups
    }

    fn segments(&mut self, table: Table<'_>) -> Segments {
        let mut named = Vec::new();
        for (key, entry) in table.keyed() {
            let name = self.event(&key, entry.name, entry.at());
            let Some(words) = self.words(&key, entry) else {
                continue;
            };
            match words.text.parse::<Segment>() {
                Ok(segment) => named.extend(name.map(|name| (name, entry.at(), key, segment))),
                Err(error) => self.fault(words.at, key, error.to_string()),
            }
        }
        let segments = named
            .iter()
            .map(|(name, .., segment)| (name.clone(), segment.clone()));
        Segments::new(segments).unwrap_or_else(|error| {
            let found = named.iter().find(|(name, ..)| name == error.name());
            let (at, key) = found.map_or((0, "segments".to_owned()), |(_, at, key, _)| {
                (*at, key.clone())
            });
            self.fault(at, key, error.to_string());
            Segments::default()
        })
    }

    fn question(&mut self, mut table: Table<'_>, clock: Clock) -> Option<PageQuery> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        // What was given, and where: nowhere when it could not be read, which has been told then.
        let mut given: HashMap<Field, Option<usize>> = HashMap::new();
        let mut put = |field: Field, words: Option<Words>| {
            given.insert(field, words.as_ref().map(|words| words.at));
            query.extend_pairs(words.map(|words| (field.name(), words.text)));
        };
        for field in QUESTION {
            let Some(entry) = table.take(field.name()) else {
                continue;
            };
            let key = table.inside(field.name());
            let words = match field {
                Field::Rows | Field::Cols | Field::Trend => self.number(&key, entry),
                Field::From | Field::To => self.date(&key, entry),
                _ => self.words(&key, entry),
            };
            put(field, words);
        }
        let lists: [fn(usize) -> Field; 2] = [Field::CohortAnd, Field::ReturningAnd];
        for field in lists {
            let name = field(0).name();
            if let Some(entry) = table.take(name) {
                let list = self.list(&table.inside(name), entry).unwrap_or_default();
                list.into_iter()
                    .enumerate()
                    .for_each(|(i, words)| put(field(i), Some(words)));
            }
        }
        let (at, key) = (table.at, table.key.clone());
        self.end(table);
        let now = clock.now();
        let typed = RawQuery::read(&query.finish()).carried_out(now, || None);
        let asked = typed.check().and_then(|asked| {
            let limits = asked
                .query()
                .check(now)
                .map_err(|error| vec![Problem::of_query(&error)]);
            limits.map(|_| asked)
        });
        let asked = asked.and_then(|asked| match typed.lost_trend(&asked) {
            Some(message) => Err(vec![Problem::new(Field::Trend, message)]),
            None => Ok(asked),
        });
        asked
            .map_err(|problems| {
                for problem in problems {
                    let key = format!("{key}.{}", problem.field.name());
                    match given.get(&problem.field) {
                        Some(Some(at)) => self.fault(*at, key, problem.message),
                        Some(None) => {}
                        None if matches!(problem.field, Field::Cohort | Field::Returning) => {
                            self.missing(at, &key, &problem.message);
                        }
                        None => self.fault(at, key, problem.message),
                    }
                }
            })
            .ok()
    }

    /// Something is not there, unless it may stand where nothing could be read.
    fn missing(&mut self, at: usize, key: &str, what: &str) {
        if !self.broken {
            self.fault(at, key, format!("is missing: {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;

    fn read(text: &str) -> Result<File, String> {
        let clock = Clock::Fixed(parse_moment("2026-11-23T14:05:00Z").unwrap());
        let variable =
            |name: &str| (name == "PROD").then(|| "redis://:hunter2@db:6379/0".to_owned());
        let faults = |faults: Vec<TomlError>| {
            faults
                .iter()
                .map(|f| f.told("c.toml"))
                .collect::<Vec<_>>()
                .join("\n")
        };
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
        let stores: Vec<_> = file
            .stores
            .iter()
            .map(|s| (&*s.name, &*s.store, s.read_only))
            .collect();
        assert_eq!(
            stores,
            [
                ("production", "redis://:hunter2@db:6379/0", false),
                ("archive", "./old.db", true)
            ]
        );
        assert_eq!(file.title.as_deref(), Some("Acme"));
        let question = file.question.as_ref().unwrap().canonical();
        assert_eq!(
            question,
            "cohort=signup&returning=active&returning_and=mobile&by=week&as=count"
        );
        assert_eq!(file.glossary.groups[0].0, "Zeal");
        assert_eq!(
            file.summary(),
            "2 stores, 1 saved segment, 2 labels, 2 groups, the question signup → active"
        );
        assert_eq!(read("").unwrap().summary(), "nothing but defaults");
    }

    #[test]
    fn the_example_in_the_documentation_is_right() {
        let page = include_str!("../../../docs/reference/configuration.md");
        let example = page
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
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
        let told = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| read(text).unwrap_err())
                .collect::<Vec<_>>()
                .join("\n")
        };
        let of_kinds = told(&[
            "titel = \"x\"\ncolour = 3",
            "[stores]\nprod = { sotre = \"redis://:hunter2@h\", prefx = \"x\", read_only = 1 }\ntest = 3",
            "stores = \"redis://:hunter2@h\"\nhidden = \"x\"\ntitle = 7\nread_only = \"yes\"",
            "hidden = [\n  \"a\",\n  1,\n  true\n]\n[groups]\nPlaces = [\"x\", 2026-11-23]\nMore = \"x\"",
            "[labels]\nactive = 1\n[labels.\"song:played\"]\nx = \"y\"\n[segments]\nm = [\"a\"]",
            "[question]\nrows = \"x\"\ncols = 1.5\nfrom = 3\ncohort = [\"a\"]\nreturning_and = \"b\"",
            "[question]\ncohort = \"a\"\ncols = -1\nfrom = \"soon\"",
            "[question]\ncohort = \"a\"\nreturning = \"b\"\ncols = 5\ntrend = 5",
            "read_only = true\n[stores]\na = { store = \"./a\", read_only = false }\nb = { store = \"./b\", read_only = true }",
        ]);
        insta::assert_snapshot!(of_kinds, @r#"
c.toml, line 1: `titel`: there is no such setting; did you mean `title`?
c.toml, line 2: `colour`: there is no such setting; there are title, read_only, hidden, stores, question, labels, groups, segments, expire, server
c.toml, line 2: `stores.prod.store`: is missing: say where the store is, such as store = "redis://host:6379/0"
c.toml, line 2: `stores.prod.read_only`: write true or false, without quotes; this is a whole number
c.toml, line 2: `stores.prod.sotre`: there is no such setting; did you mean `store`?
c.toml, line 2: `stores.prod.prefx`: there is no such setting; did you mean `prefix`?
c.toml, line 3: `stores.test`: write a store such as "redis://host:6379/0", or { store = "…", prefix = "…", read_only = true }; this is a whole number
c.toml, line 1: `stores`: write a table, [stores], with a line for each; this is text
c.toml, line 2: `hidden`: write a list of texts, such as ["a", "b"]; this is text
c.toml, line 3: `title`: write text in quotes; this is a whole number
c.toml, line 4: `read_only`: write true or false, without quotes; this is text
c.toml, line 3: `hidden`: write each part of the list as text in quotes; this is a whole number
c.toml, line 4: `hidden`: write each part of the list as text in quotes; this is true or false
c.toml, line 7: `groups.Places`: write each part of the list as text in quotes; this is a date
c.toml, line 8: `groups.More`: write a list of texts, such as ["a", "b"]; this is text
c.toml, line 2: `labels.active`: write text in quotes; this is a whole number
c.toml, line 3: `labels."song:played"`: write text in quotes; this is a table
c.toml, line 6: `segments.m`: write text in quotes; this is a list
c.toml, line 1: `question.returning`: is missing: name an event, such as `signup`, or a segment, such as `active & (web | ios)`
c.toml, line 2: `question.rows`: write a whole number, without quotes; this is text
c.toml, line 3: `question.cols`: write a whole number, without quotes; this is a number with a point
c.toml, line 4: `question.from`: write a date, such as 2026-11-23; this is a whole number
c.toml, line 5: `question.cohort`: write text in quotes; this is a list
c.toml, line 6: `question.returning_and`: write a list of texts, such as ["a", "b"]; this is text
c.toml, line 1: `question.returning`: is missing: name an event, such as `signup`, or a segment, such as `active & (web | ios)`
c.toml, line 3: `question.cols`: `-1` is not a whole number from 1 to 400
c.toml, line 4: `question.from`: `soon` is not a date: write it as 2026-11-23
c.toml, line 5: `question.trend`: There is no column 5 to draw the trend of: the table has 0 to 4.
c.toml, line 3: `stores.a.read_only`: line 1 makes every store read-only, so this cannot be false: leave one of the two out
"#);
        let of_the_reader = told(&[
            "a = \ntitel = \"x\"",
            "[labels]\na = \"x\"\na = \"y\"\n[question]\nrows = true",
            "[stores]\na = { store = \"redis://:hunter2@h\", store = \"y\" }",
            "title = Acme\n[question]\ncohort = \"a\nby = \"fortnight\"\n[labels]\nactive = 1",
        ]);
        insta::assert_snapshot!(of_the_reader, @"
c.toml, line 1: `a`: this cannot be read: string values must be quoted
c.toml, line 2: `titel`: there is no such setting; did you mean `title`?
c.toml, line 3: `labels.a`: this is written twice: keep one of the two
c.toml, line 4: `question.cohort`: is missing: name an event, such as `signup`, or a segment, such as `active & (web | ios)`
c.toml, line 4: `question.returning`: is missing: name an event, such as `signup`, or a segment, such as `active & (web | ios)`
c.toml, line 5: `question.rows`: write a whole number, without quotes; this is true or false
c.toml, line 2: `stores.a.store`: this is written twice: keep one of the two
c.toml, line 1: `title`: this cannot be read: string values must be quoted
c.toml, line 3: `question.cohort`: this cannot be read: invalid basic string
c.toml, line 4: `question.by`: `fortnight` is not a period: write hour, day, week, month or year
c.toml, line 6: `labels.active`: write text in quotes; this is a whole number
");
        let our_own = told(&[
            "title = \"\"\nhidden = [\"a\\n*\"]\n[stores]\n\"a b\" = \"x\"\nc = \"http://:hunter2@x\"\nd = \"./x\"\ne = \"./x\"\n\
             f = \"$NO\"\n[labels]\n\"\" = \"x\"\nb = \" \"\n[segments]\nm = \"ios |\"\nx = \"y\"\ny = \"x\"\n[question]\n\
             cohort = \"signup &\"\nreturning = \"active\"\nby = \"fortnight\"\nrows = 0\nreturning_and = [\"a\", \"(\"]",
            "[question]\ncohort = \"a\"\nreturning = \"b\"\nrows = 400\ncols = 400",
        ]);
        insta::assert_snapshot!(our_own, @r#"
c.toml, line 1: `title`: write 1 to 60 characters on one line
c.toml, line 2: `hidden`: an event name must not hold control characters; `a\n` holds U+000A at character 2; write a name, or its beginning and a `*`
c.toml, line 4: `stores."a b"`: a store's name stands in addresses: write 1 to 40 of A–Z, a–z, 0–9, - and _
c.toml, line 5: `stores.c`: `http://…@x` is not a store: give a path (./cohortist.db), memory:, redis://host:6379/0, rediss://… (TLS), redis+unix:///path/to/redis.sock or redis-cluster://host:6379,host:6379
c.toml, line 7: `stores.e`: another store of this file is at the same path
c.toml, line 8: `stores.f`: the environment has no variable NO
c.toml, line 10: `labels.""`: an event name must not be empty
c.toml, line 11: `labels.b`: write 1 to 120 characters on one line
c.toml, line 13: `segments.m`: column 6: expected an event name or `(`, found the end
c.toml, line 14: `segments.x`: the saved segment `x` refers to itself: x → y → x
c.toml, line 17: `question.cohort`: column 9: expected an event name or `(`, found the end
c.toml, line 19: `question.by`: `fortnight` is not a period: write hour, day, week, month or year
c.toml, line 20: `question.rows`: `0` is not a whole number from 1 to 400
c.toml, line 21: `question.returning_and`: column 2: expected an event name or `(`, found the end
c.toml, line 4: `question.rows`: 400 cohorts × 400 periods are 160000 cells, and a table holds at most 20000: ask for fewer of either
"#);
        assert!(
            ![of_kinds, of_the_reader, our_own]
                .concat()
                .contains("hunter2")
        );
        let bytes = b"title = \"Acme\"\n[labels]\na = \"Caf\xe9\"\nb = 2\n";
        let clock = Clock::Fixed(parse_moment("2026-11-23").unwrap());
        let told = File::read("c.toml", bytes, clock, |_| None).unwrap_err();
        let told: Vec<String> = told.iter().map(|fault| fault.told("c.toml")).collect();
        assert_eq!(
            told,
            [
                "c.toml, line 3: `a`: byte 9 of this line is not UTF-8: save the file as UTF-8",
                "c.toml, line 4: `labels.b`: write text in quotes; this is a whole number"
            ]
        );
    }

    /// Each would take minutes, or end the process, if the time for it grew faster than its size.
    #[test]
    fn texts_that_are_no_configuration_are_refused_soon_and_in_a_few_lines() {
        let size = 100_000;
        let filled = |part: &dyn Fn(usize) -> String| {
            let parts = (0..).map(part);
            let mut text = String::new();
            parts
                .take_while(|part| {
                    text.push_str(part);
                    text.len() < size
                })
                .for_each(drop);
            text
        };
        let listed = |part: &str| format!("[{}]", filled(&|_| format!("{part}, ")));
        let sides = "[question]\ncohort = \"a\"\nreturning = \"b\"\nreturning_and = ";
        let chain = |i| format!("k{i:06} = \"k{:06}\"\n", i + 1);
        let mut dice = 7_u32;
        let mut random = || {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            dice.to_be_bytes()[0]
        };
        let texts = [
            filled(&|_| "This is a line of a text, and no more.\n".to_owned()),
            filled(&|_| "x\n".to_owned()),
            filled(&|_| "[\n".to_owned()),
            filled(&|_| "k = 1\n".to_owned()),
            filled(&|i| format!("{i},signup,2026-11-23T00:00:00Z\n")),
            filled(&|i| format!("[t{i}]\n")),
            format!("{} = 1", filled(&|_| "a.".to_owned())),
            format!("[labels]\n{}", filled(&|_| "a b\n".to_owned())),
            format!("[segments]\n{}", filled(&chain)),
            format!("hidden = {}", listed("\"\"")),
            format!("{sides}{}", listed("\"(\"")),
        ];
        let texts = texts.into_iter().map(String::into_bytes);
        for text in texts.chain([(0..size).map(|_| random()).collect()]) {
            let shown = String::from_utf8_lossy(&text[..20]).into_owned();
            let clock = Clock::Fixed(parse_moment("2026-11-23").unwrap());
            let faults = File::read("c.toml", &text, clock, |_| None).unwrap_err();
            let told = told("c.toml", &faults);
            let lines: Vec<&str> = told.lines().collect();
            assert!(lines.len() <= MAX_TOLD + 1, "{shown}: {told}");
            assert!(lines.iter().all(|line| line.len() < 400), "{shown}: {told}");
            let others = crate::render::thousands((faults.len().saturating_sub(MAX_TOLD)) as u64);
            let rest = format!("c.toml: {others} more mistakes; is this a configuration file?");
            assert_eq!(
                told.ends_with(&rest),
                faults.len() > MAX_TOLD + 1,
                "{shown}: {told}"
            );
        }
    }

    #[test]
    fn a_question_says_what_an_address_can_say() {
        let asked = |text: &str| {
            read(&format!(
                "[question]\ncohort = \"a\"\nreturning = \"b\"\n{text}"
            ))
            .unwrap()
            .question
        };
        for dates in [
            "from = 2026-11-02\nto = 2026-11-20",
            "from = \"2026-11-02\"\nto = \"2026-11-20\"",
        ] {
            let asked = asked(&format!(
                "by = \"week\"\n{dates}\ntrend = 3\norder = \"oldest\""
            ))
            .unwrap()
            .canonical();
            assert_eq!(
                asked,
                "cohort=a&returning=b&by=week&from=2026-11-02&to=2026-11-20&order=oldest&trend=3"
            );
        }
    }
}
