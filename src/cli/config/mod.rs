//! `cohortist.toml`: the title of a dashboard, its stores, labels, segments and first question.
//!
//! All mistakes are reported together, with line and key. Messages repeat no values, which may
//! contain passwords.

mod collect;
mod entry;
mod expiry;
mod import;
mod spanned_toml;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use chrono::NaiveTime;
use toml::de::DeTable;
use url::form_urlencoded;

pub use self::entry::Entry;
use crate::calendar::{Calendar, CalendarError, Grain, Zone};
use crate::cli::expiry::Expiry;
use crate::cli::output::Usage;
use crate::clock::Clock;
use crate::ingest::Wish;
use crate::server::query::{Field, PageQuery, Problem, RawQuery};
use crate::server::{Collect, Glossary, Hosts, Pattern};
use crate::sets::{EventName, Label, Labels, Prefix, Segment, Segments};
use crate::store::Place;
use spanned_toml::{MAX_REPORTED, SpannedToml, Table, Text, TomlError};

/// The file that is read if no other is named, and it exists.
pub const DEFAULT_FILE: &str = "cohortist.toml";

/// The longest title, in characters. It is in the header of every page.
const MAX_TITLE: usize = 60;

/// The longest label of an event, in characters.
const MAX_LABEL: usize = 120;

/// The longest description of an event, in characters.
const MAX_ABOUT: usize = 300;

/// The longest name of a store, in bytes.
const MAX_STORE_NAME: usize = 40;

/// The largest file, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// A configuration file, checked.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// The path it was read from, empty if there is no file.
    pub name: String,
    pub title: Option<String>,
    pub read_only: bool,
    /// In the order of the file. The first is the default one.
    pub stores: Vec<Entry>,
    pub glossary: Glossary,
    pub segments: Segments,
    /// The zone and the weeks of questions that do not name others.
    pub calendar: Calendar,
    pub question: Option<PageQuery>,
    /// How long bitmaps are kept in stores without an expiry of their own.
    pub expire: Expiry,
    /// The time of day, in UTC, at which `serve` deletes expired bitmaps.
    pub expire_at: NaiveTime,
    /// The names `serve` answers to.
    pub hosts: Hosts,
    /// What `serve --collect` records.
    pub collect: Option<Collect>,
    /// The properties that `import` reads if no others are named.
    pub import: Vec<Wish>,
}

impl File {
    /// Reads the named file. If none is named and `use_default` is set, reads the default file if it
    /// exists.
    pub fn find(named: Option<&Path>, use_default: bool, clock: Clock) -> Result<File, Usage> {
        if named.is_none() && !use_default {
            return Ok(File::default());
        }
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let name = path.display().to_string();
        let bytes = match bytes(path) {
            Ok(bytes) => bytes,
            Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(File::default());
            }
            Err(error) => return Err(Usage(format!("--config: cannot read {name}: {error}"))),
        };
        File::read(&name, bytes, clock, |variable| std::env::var(variable).ok())
            .map_err(|errors| Usage(report(&name, &errors)))
    }

    /// Parses the text of a file. `variable` looks up an environment variable, for stores such as
    /// `"$REDIS_URL"`.
    pub fn read(
        name: &str,
        text: impl AsRef<[u8]>,
        clock: Clock,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<File, Vec<TomlError>> {
        let bytes = text.as_ref();
        let text = String::from_utf8_lossy(bytes);
        let (table, syntax_errors) = DeTable::parse_recoverable(&text);
        let mut toml = SpannedToml::new(&text, &syntax_errors);
        let invalid = toml.errors.len();
        let file = toml.file(name, table.get_ref(), clock, variable);
        let mut errors = toml.errors;
        // Further errors of an invalid line are likely to be wrong.
        let mut checks = errors.split_off(invalid);
        checks.retain(|error| !toml.invalid_lines.contains(&error.line));
        errors.append(&mut checks);
        errors.extend(not_utf8(bytes));
        errors.sort_by_key(|error| error.line);
        if errors.is_empty() {
            Ok(file)
        } else {
            Err(errors)
        }
    }

    /// Summarizes the file, such as `2 stores, 1 label, read-only`.
    pub fn summary(&self) -> String {
        let counts = [
            (self.stores.len(), "store"),
            (self.segments.iter().count(), "saved segment"),
            (self.glossary.labels.len(), "label"),
            (self.glossary.groups.len(), "group"),
        ];
        let mut parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, noun)| crate::render::many(count as u64, noun))
            .collect();
        if let Some(question) = &self.question {
            let bare = &question.bare;
            parts.push(format!("the question {} → {}", bare.cohort, bare.returning));
        }
        let hosts = self.hosts.to_string();
        if !hosts.is_empty() {
            parts.push(format!("for {hosts}"));
        }
        if self.calendar != Calendar::default() {
            parts.push(self.calendar.words());
        }
        if !self.expire.description.is_empty() {
            parts.push(format!("expire after {}", self.expire.description));
        }
        if let Some(collect) = &self.collect {
            let keys = crate::render::many(collect.keys.len() as u64, "write key");
            parts.push(keys);
        }
        if self.read_only {
            parts.push("read-only".to_owned());
        }
        if parts.is_empty() {
            "only defaults".to_owned()
        } else {
            parts.join(", ")
        }
    }
}

/// Reads a configuration file. Anything but a regular file of a plausible size is an error: reading
/// a pipe may never end.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        let max = MAX_SIZE >> 20;
        return Err(io::Error::other(format!(
            "it is larger than {max} MiB, so it is not a configuration file"
        )));
    }
    Ok(bytes)
}

/// The first mistakes of a file, a line each, and the number of further ones.
fn report(file: &str, errors: &[TomlError]) -> String {
    let mut lines: Vec<String> = errors
        .iter()
        .take(MAX_REPORTED)
        .map(|error| error.in_file(file))
        .collect();
    let further = errors.len().saturating_sub(MAX_REPORTED);
    if further > 0 {
        let further = crate::render::many(further as u64, "more mistake");
        lines.push(format!("{file}: {further}; is this a configuration file?"));
    }
    lines.join("\n")
}

/// The settings of `[question]` beside its lists of filters, named as in URLs.
const QUESTION: [Field; 17] = [
    Field::Cohort,
    Field::Returning,
    Field::Range,
    Field::By,
    Field::Rows,
    Field::Cols,
    Field::Brackets,
    Field::From,
    Field::To,
    Field::Measure,
    Field::As,
    Field::Average,
    Field::Week,
    Field::Zone,
    Field::Order,
    Field::Scale,
    Field::Trend,
];

/// Reports every line that is not UTF-8.
fn not_utf8(bytes: &[u8]) -> Vec<TomlError> {
    let mut errors = Vec::new();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let Err(error) = std::str::from_utf8(line) else {
            continue;
        };
        let text = String::from_utf8_lossy(line);
        errors.push(TomlError {
            line: number,
            key: text
                .split_once('=')
                .map_or(String::new(), |(key, _)| key.trim().to_owned()),
            message: format!(
                "byte {} of this line is not UTF-8: save the file as UTF-8",
                error.valid_up_to() + 1
            ),
        });
    }
    errors
}

impl SpannedToml {
    fn file(
        &mut self,
        name: &str,
        table: &DeTable<'_>,
        clock: Clock,
        variable: impl Fn(&str) -> Option<String>,
    ) -> File {
        let mut root = Table::new("", 0, table);
        let title = root
            .take("title")
            .and_then(|title| self.text("title", title))
            .and_then(|title| self.line("title", title, MAX_TITLE));
        let read_only = root
            .take("read_only")
            .and_then(|entry| Some((self.flag("read_only", entry)?, entry.at())));
        let hidden = root
            .take("hidden")
            .and_then(|hidden| self.list("hidden", hidden))
            .unwrap_or_default();
        let mut section = |name: &'static str, rule: &str| {
            let entry = root.take(name)?;
            self.table(name, entry, rule)
        };
        let stores = section("stores", "must be a table, [stores], with a line per store");
        let question = section("question", "must be a table, [question]");
        let labels = section("labels", "must be a table, [labels], with a line per event");
        let about = section("about", "must be a table, [about], with a line per event");
        let groups = section("groups", "must be a table, [groups], with a line per group");
        let segments = section(
            "segments",
            "must be a table, [segments], with a line per segment",
        );
        let expire = section("expire", expiry::RULE);
        let calendar = section(
            "calendar",
            "must be a table, [calendar], with lines such as zone = \"Europe/Berlin\"",
        );
        let server = section(
            "server",
            "must be a table, [server], with a line such as hosts = [\"stats.example.org\"]",
        );
        let collect = section("collect", collect::RULE);
        let import = section("import", import::RULE);
        self.finish(root);
        let collect = collect.map(|table| self.collect(table, &variable));
        let expire = expire
            .map(|table| self.expire_section(table))
            .unwrap_or_default();
        let stores = stores
            .map(|table| self.stores(table, read_only, &expire.expiry, variable))
            .unwrap_or_default();
        self.check_expire_section(&expire, &stores);
        let calendar = calendar
            .map(|table| self.calendar(table, clock))
            .unwrap_or_default();
        File {
            name: name.to_owned(),
            title,
            read_only: read_only.is_some_and(|(flag, _)| flag),
            stores,
            glossary: Glossary {
                labels: labels.map(|table| self.labels(table)).unwrap_or_default(),
                about: about.map(|table| self.about(table)).unwrap_or_default(),
                groups: groups.map(|table| self.groups(table)).unwrap_or_default(),
                hidden: hidden
                    .into_iter()
                    .filter_map(|pattern| self.pattern("hidden", pattern))
                    .collect(),
            },
            segments: segments
                .map(|table| self.segments(table))
                .unwrap_or_default(),
            calendar,
            question: question.and_then(|table| self.question(table, clock)),
            expire: expire.expiry,
            expire_at: expire.at,
            hosts: server.map(|table| self.hosts(table)).unwrap_or_default(),
            collect,
            import: import.map(|table| self.import(table)).unwrap_or_default(),
        }
    }

    /// `[calendar]`: the zone, and the first day of weeks.
    fn calendar(&mut self, mut table: Table<'_>, clock: Clock) -> Calendar {
        let mut calendar = Calendar::default();
        let key = table.key_of("zone");
        if let Some(text) = table.take("zone").and_then(|entry| self.text(&key, entry)) {
            let zone = text.text.parse::<Zone>();
            // A zone that cannot be used today is of no use.
            match zone.and_then(|zone| zone.period(Grain::Day, clock.now()).map(|_| zone)) {
                Ok(zone) => calendar.zone = zone,
                Err(error) => self.error(text.at, &key, error.to_string()),
            }
        }
        let key = table.key_of("week");
        if let Some(text) = table.take("week").and_then(|entry| self.text(&key, entry)) {
            match text.text.parse() {
                Ok(week) => calendar.week = week,
                Err(error) => self.error(text.at, &key, CalendarError::to_string(&error)),
            }
        }
        self.finish(table);
        calendar
    }

    /// Checks text for people: it must not be empty or too long, and have one line.
    fn line(&mut self, key: &str, text: Text, max: usize) -> Option<String> {
        let line = text.text.trim();
        if line.is_empty() || line.chars().count() > max || line.contains(char::is_control) {
            let message = format!("must have 1 to {max} characters on one line");
            self.error(text.at, key, message);
            return None;
        }
        Some(line.to_owned())
    }

    fn event(&mut self, key: &str, name: &str, at: usize) -> Option<EventName> {
        EventName::new(name)
            .map_err(|error| self.error(at, key, error.to_string()))
            .ok()
    }

    fn pattern(&mut self, key: &str, pattern: Text) -> Option<Pattern> {
        let start = pattern.text.strip_suffix('*').unwrap_or(&pattern.text);
        if pattern.text != "*"
            && let Err(error) = EventName::new(start)
        {
            let message = format!("{error}; write a name, or the start of names and a `*`");
            self.error(pattern.at, key, message);
            return None;
        }
        Some(Pattern::new(pattern.text))
    }

    /// `[server]`: the names the server answers to.
    fn hosts(&mut self, mut table: Table<'_>) -> Hosts {
        let key = table.key_of("hosts");
        let names = table
            .take("hosts")
            .and_then(|entry| self.list(&key, entry))
            .unwrap_or_default();
        self.finish(table);
        let mut hosts = Vec::new();
        for name in names {
            match name.text.parse() {
                Ok(host) => hosts.push(host),
                Err(error) => self.error(name.at, &key, error),
            }
        }
        hosts.into_iter().collect()
    }

    fn stores(
        &mut self,
        table: Table<'_>,
        read_only: Option<(bool, usize)>,
        expiry: &Expiry,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Vec<Entry> {
        let mut stores = Vec::new();
        let mut paths = BTreeSet::new();
        for (key, entry) in table.into_entries() {
            let at = entry.at();
            self.check_store_name(&key, entry);
            let Some(settings) = self.store_settings(&key, entry, read_only) else {
                continue;
            };
            let Some(text) = settings.store else {
                continue;
            };
            let store = match text.text.strip_prefix('$') {
                None => text.text,
                Some(name) => match variable(name).filter(|value| !value.is_empty()) {
                    Some(value) => value,
                    None => {
                        let message = format!("the environment variable {name} is not set");
                        self.error(at, key, message);
                        continue;
                    }
                },
            };
            match Place::parse(&store) {
                Err(error) => self.error(at, &key, error.to_string()),
                Ok(Place::Directory(path)) if !paths.insert(path.to_owned()) => {
                    self.error(at, &key, "another store in this file has the same path");
                }
                Ok(_) => {}
            }
            stores.push(Entry {
                name: entry.name.to_owned(),
                store,
                prefix: settings.prefix,
                kept_in: settings.kept_in,
                read_only: is_set(read_only) || is_set(settings.read_only),
                expire: settings.expiry.unwrap_or_else(|| expiry.clone()),
            });
        }
        stores
    }

    fn check_store_name(&mut self, key: &str, entry: spanned_toml::Entry<'_>) {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let name = entry.name;
        if name.is_empty() || name.len() > MAX_STORE_NAME || !name.chars().all(is_allowed) {
            let message = format!(
                "a store's name is a part of URLs: use 1 to {MAX_STORE_NAME} characters of A–Z, a–z, 0–9, - and _"
            );
            self.error(entry.at(), key, message);
        }
    }

    /// The settings of a store, which is text or a table.
    fn store_settings(
        &mut self,
        key: &str,
        entry: spanned_toml::Entry<'_>,
        read_only: Option<(bool, usize)>,
    ) -> Option<StoreSettings> {
        if entry.is_text() {
            return Some(StoreSettings {
                store: self.text(key, entry),
                ..StoreSettings::default()
            });
        }
        let rule = "must be a store such as \"redis://host:6379/0\", or { store = \"…\", prefix = \"…\", read_only = true }";
        let mut table = self.table(key, entry, rule)?;
        let mut settings = StoreSettings::default();
        let key = table.key_of("store");
        match table.take("store") {
            Some(store) => settings.store = self.text(&key, store),
            None => {
                let hint = "name the store, such as store = \"redis://host:6379/0\"";
                self.missing(entry.at(), &key, hint);
            }
        }
        let key = table.key_of("prefix");
        settings.prefix = table
            .take("prefix")
            .and_then(|prefix| self.text(&key, prefix))
            .map(|prefix| Prefix::new(&prefix.text));
        let key = table.key_of("kept_in");
        let kept_in = table.take("kept_in");
        if let Some(text) = kept_in.and_then(|zone| self.text(&key, zone)) {
            match text.text.parse() {
                Ok(zone) => settings.kept_in = Some(zone),
                Err(error) => self.error(text.at, &key, CalendarError::to_string(&error)),
            }
        }
        let key = table.key_of("read_only");
        settings.read_only = table
            .take("read_only")
            .and_then(|entry| Some((self.flag(&key, entry)?, entry.at())));
        settings.expiry = self.expire_of_store(&mut table, read_only.or(settings.read_only));
        self.finish(table);
        if let (Some((true, all)), Some((false, own))) = (read_only, settings.read_only) {
            let message = format!(
                "line {} makes every store read-only, so this cannot be false: remove one of the two",
                self.line_of(all)
            );
            self.error(own, key, message);
        }
        Some(settings)
    }

    fn labels(&mut self, table: Table<'_>) -> Labels {
        let mut labels = Labels::new();
        for (key, entry) in table.into_entries() {
            let name = self.event(&key, entry.name, entry.at());
            let label = match entry.is_text() {
                true => self
                    .text(&key, entry)
                    .and_then(|label| self.line(&key, label, MAX_LABEL))
                    .map(|name| Label { name, did: None }),
                false => self.label(&key, entry),
            };
            if let Some((name, label)) = name.zip(label) {
                labels.insert(name, label);
            }
        }
        labels
    }

    /// A label with the phrase of what somebody did.
    fn label(&mut self, key: &str, entry: spanned_toml::Entry<'_>) -> Option<Label> {
        let rule =
            "must be text in quotes, or { name = \"Opened the app\", did = \"opened the app\" }";
        let mut table = self.table(key, entry, rule)?;
        let key = table.key_of("name");
        let name = match table.take("name") {
            Some(name) => self.text(&key, name),
            None => {
                self.missing(entry.at(), &key, "write how pages call the event");
                None
            }
        };
        let name = name.and_then(|name| self.line(&key, name, MAX_LABEL));
        let key = table.key_of("did");
        let did = table.take("did").and_then(|did| self.text(&key, did));
        let did = did.and_then(|did| self.line(&key, did, MAX_LABEL));
        self.finish(table);
        Some(Label { name: name?, did })
    }

    /// `[about]`: what events mean.
    fn about(&mut self, table: Table<'_>) -> BTreeMap<EventName, String> {
        let mut about = BTreeMap::new();
        for (key, entry) in table.into_entries() {
            let name = self.event(&key, entry.name, entry.at());
            let text = self
                .text(&key, entry)
                .and_then(|text| self.line(&key, text, MAX_ABOUT));
            about.extend(name.zip(text));
        }
        about
    }

    fn groups(&mut self, table: Table<'_>) -> Vec<(String, Vec<Pattern>)> {
        let mut groups = Vec::new();
        for (key, entry) in table.into_entries() {
            let members = self.list(&key, entry).unwrap_or_default();
            let members = members
                .into_iter()
                .filter_map(|member| self.pattern(&key, member))
                .collect();
            let name = Text {
                text: entry.name.to_owned(),
                at: entry.at(),
            };
            groups.extend(self.line(&key, name, MAX_LABEL).map(|name| (name, members)));
        }
        groups
    }

    fn segments(&mut self, table: Table<'_>) -> Segments {
        let mut named = Vec::new();
        for (key, entry) in table.into_entries() {
            let name = self.event(&key, entry.name, entry.at());
            let Some(text) = self.text(&key, entry) else {
                continue;
            };
            match text.text.parse::<Segment>() {
                Ok(segment) => named.extend(name.map(|name| (name, entry.at(), key, segment))),
                Err(error) => self.error(text.at, key, error.to_string()),
            }
        }
        let segments = named
            .iter()
            .map(|(name, .., segment)| (name.clone(), segment.clone()));
        Segments::new(segments).unwrap_or_else(|error| {
            let (_, at, key, _) = named
                .iter()
                .find(|(name, ..)| name == error.name())
                .expect("the error is about one of these segments");
            self.error(*at, key, error.to_string());
            Segments::default()
        })
    }

    fn question(&mut self, mut table: Table<'_>, clock: Clock) -> Option<PageQuery> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        // The fields that were given, with their offsets. `None` if the value had the wrong type,
        // which has been reported.
        let mut given: HashMap<Field, Option<usize>> = HashMap::new();
        for field in QUESTION {
            let Some(entry) = table.take(field.name()) else {
                continue;
            };
            let key = table.key_of(field.name());
            let text = match field {
                Field::Rows | Field::Cols | Field::Trend => self.number(&key, entry),
                Field::From | Field::To => self.date(&key, entry),
                _ => self.text(&key, entry),
            };
            given.insert(field, text.as_ref().map(|text| text.at));
            query.extend_pairs(text.map(|text| (field.name(), text.text)));
        }
        let lists: [fn(usize) -> Field; 2] = [Field::CohortAnd, Field::ReturningAnd];
        for field in lists {
            let name = field(0).name();
            let Some(entry) = table.take(name) else {
                continue;
            };
            let list = self.list(&table.key_of(name), entry).unwrap_or_default();
            for (index, text) in list.into_iter().enumerate() {
                given.insert(field(index), Some(text.at));
                query.append_pair(name, &text.text);
            }
        }
        let section = table.key.clone();
        let section_at = table.at;
        self.finish(table);
        match parse_question(&query.finish(), clock) {
            Ok(question) => Some(question),
            Err(problems) => {
                for problem in problems {
                    let key = format!("{section}.{}", problem.field.name());
                    match given.get(&problem.field) {
                        Some(Some(at)) => self.error(*at, key, problem.message),
                        Some(None) => {}
                        None if matches!(problem.field, Field::Cohort | Field::Returning) => {
                            self.missing(section_at, &key, &problem.message);
                        }
                        None => self.error(section_at, key, problem.message),
                    }
                }
                None
            }
        }
    }

    /// Reports a missing setting, unless it may be in a part that is invalid TOML.
    fn missing(&mut self, at: usize, key: &str, hint: &str) {
        if !self.has_syntax_errors {
            self.error(at, key, format!("is missing: {hint}"));
        }
    }
}

/// Parses and checks a question in the form of a URL's query.
fn parse_question(query: &str, clock: Clock) -> Result<PageQuery, Vec<Problem>> {
    let now = clock.now();
    let raw = RawQuery::read(query).carried_out(now, || None);
    let question = raw.check()?;
    if let Err(error) = question.query().check(now) {
        return Err(vec![Problem::of_query(&error)]);
    }
    match raw.lost_trend(&question) {
        Some(message) => Err(vec![Problem::new(Field::Trend, message)]),
        None => Ok(question),
    }
}

/// The settings of a store, as far as they are valid.
#[derive(Default)]
struct StoreSettings {
    store: Option<Text>,
    prefix: Option<Prefix>,
    kept_in: Option<Zone>,
    /// The flag, and its offset.
    read_only: Option<(bool, usize)>,
    expiry: Option<Expiry>,
}

fn is_set(flag: Option<(bool, usize)>) -> bool {
    flag.is_some_and(|(flag, _)| flag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;

    fn read(text: &str) -> Result<File, String> {
        let clock = Clock::Fixed(parse_moment("2026-11-23T14:05:00Z").unwrap());
        let variable =
            |name: &str| (name == "PROD").then(|| "redis://:hunter2@db:6379/0".to_owned());
        File::read("c.toml", text, clock, variable).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|e| e.in_file("c.toml")).collect();
            lines.join("\n")
        })
    }

    #[test]
    fn stores_and_groups_keep_the_order_of_the_file() {
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
        assert_eq!(read("").unwrap().summary(), "only defaults");
    }

    #[test]
    fn the_example_in_the_documentation_is_valid() {
        let page = include_str!("../../../docs/reference/configuration.md");
        let example = page
            .split("```toml\n")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let clock = Clock::Fixed(parse_moment("2026-11-23").unwrap());
        // Without environment variables, so that it can be pasted as it is.
        let file = File::read("cohortist.toml", example, clock, |_| None);
        assert_eq!(
            file.unwrap().summary(),
            "1 store, 2 saved segments, 1 label, 1 group, the question signup → active"
        );
    }

    #[test]
    fn every_mistake_is_reported_with_line_and_key_and_without_passwords() {
        let errors = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| read(text).unwrap_err())
                .collect::<Vec<_>>()
                .join("\n")
        };
        let types = errors(&[
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
        insta::assert_snapshot!(types, @r#"
c.toml, line 1: `titel`: unknown setting; did you mean `title`?
c.toml, line 2: `colour`: unknown setting; the settings are title, read_only, hidden, stores, question, labels, about, groups, segments, expire, calendar, server, collect, import
c.toml, line 2: `stores.prod.store`: is missing: name the store, such as store = "redis://host:6379/0"
c.toml, line 2: `stores.prod.read_only`: must be true or false without quotes, not a whole number
c.toml, line 2: `stores.prod.sotre`: unknown setting; did you mean `store`?
c.toml, line 2: `stores.prod.prefx`: unknown setting; did you mean `prefix`?
c.toml, line 3: `stores.test`: must be a store such as "redis://host:6379/0", or { store = "…", prefix = "…", read_only = true }, not a whole number
c.toml, line 1: `stores`: must be a table, [stores], with a line per store, not text
c.toml, line 2: `hidden`: must be a list of texts, such as ["a", "b"], not text
c.toml, line 3: `title`: must be text in quotes, not a whole number
c.toml, line 4: `read_only`: must be true or false without quotes, not text
c.toml, line 3: `hidden`: each item must be text in quotes, not a whole number
c.toml, line 4: `hidden`: each item must be text in quotes, not true or false
c.toml, line 7: `groups.Places`: each item must be text in quotes, not a date or time
c.toml, line 8: `groups.More`: must be a list of texts, such as ["a", "b"], not text
c.toml, line 2: `labels.active`: must be text in quotes, or { name = "Opened the app", did = "opened the app" }, not a whole number
c.toml, line 3: `labels."song:played".name`: is missing: write how pages call the event
c.toml, line 4: `labels."song:played".x`: unknown setting; the settings are name, did
c.toml, line 6: `segments.m`: must be text in quotes, not a list
c.toml, line 1: `question.returning`: is missing: name an event, such as `signup`, or a segment, such as `active & (web | ios)`
c.toml, line 2: `question.rows`: must be a whole number without quotes, not text
c.toml, line 3: `question.cols`: must be a whole number without quotes, not a number with a decimal point
c.toml, line 4: `question.from`: must be a date, such as 2026-11-23, not a whole number
c.toml, line 5: `question.cohort`: must be text in quotes, not a list
c.toml, line 6: `question.returning_and`: must be a list of texts, such as ["a", "b"], not text
c.toml, line 1: `question.returning`: is missing: name an event, such as `signup`, or a segment, such as `active & (web | ios)`
c.toml, line 3: `question.cols`: `-1` is not a whole number from 1 to 400
c.toml, line 4: `question.from`: `soon` is not a date: write it as 2026-11-23
c.toml, line 5: `question.trend`: There is no column 5 to draw the trend of: the table has 0 to 4.
c.toml, line 3: `stores.a.read_only`: line 1 makes every store read-only, so this cannot be false: remove one of the two
"#);
        let syntax = errors(&[
            "a = \ntitel = \"x\"",
            "[labels]\na = \"x\"\na = \"y\"\n[question]\nrows = true",
            "[stores]\na = { store = \"redis://:hunter2@h\", store = \"y\" }",
            "title = Acme\n[question]\ncohort = \"a\nby = \"fortnight\"\n[labels]\nactive = 1",
        ]);
        insta::assert_snapshot!(syntax, @r#"
c.toml, line 1: `a`: invalid TOML: string values must be quoted
c.toml, line 2: `titel`: unknown setting; did you mean `title`?
c.toml, line 3: `labels.a`: invalid TOML: duplicate key
c.toml, line 5: `question.rows`: must be a whole number without quotes, not true or false
c.toml, line 2: `stores.a.store`: invalid TOML: duplicate key
c.toml, line 1: `title`: invalid TOML: string values must be quoted
c.toml, line 3: `question.cohort`: invalid TOML: invalid basic string
c.toml, line 4: `question.by`: `fortnight` is not a period: write hour, day, week, month or year
c.toml, line 6: `labels.active`: must be text in quotes, or { name = "Opened the app", did = "opened the app" }, not a whole number
"#);
        let values = errors(&[
            "title = \"\"\nhidden = [\"a\\n*\"]\n[stores]\n\"a b\" = \"x\"\nc = \"http://:hunter2@x\"\nd = \"./x\"\ne = \"./x\"\n\
             f = \"$NO\"\n[labels]\n\"\" = \"x\"\nb = \" \"\n[segments]\nm = \"ios |\"\nx = \"y\"\ny = \"x\"\n[question]\n\
             cohort = \"signup &\"\nreturning = \"active\"\nby = \"fortnight\"\nrows = 0\nreturning_and = [\"a\", \"(\"]",
            "[question]\ncohort = \"a\"\nreturning = \"b\"\nrows = 400\ncols = 400",
        ]);
        insta::assert_snapshot!(values, @r#"
c.toml, line 1: `title`: must have 1 to 60 characters on one line
c.toml, line 2: `hidden`: an event name must not hold control characters; `a\n` holds U+000A at character 2; write a name, or the start of names and a `*`
c.toml, line 4: `stores."a b"`: a store's name is a part of URLs: use 1 to 40 characters of A–Z, a–z, 0–9, - and _
c.toml, line 5: `stores.c`: `http://…@x` is not a store: give a path (./cohortist.db), memory:, redis://host:6379/0, rediss://… (TLS), redis+unix:///path/to/redis.sock or redis-cluster://host:6379,host:6379
c.toml, line 7: `stores.e`: another store in this file has the same path
c.toml, line 8: `stores.f`: the environment variable NO is not set
c.toml, line 10: `labels.""`: an event name must not be empty
c.toml, line 11: `labels.b`: must have 1 to 120 characters on one line
c.toml, line 13: `segments.m`: column 6: expected an event name or `(`, found the end
c.toml, line 14: `segments.x`: the saved segment `x` refers to itself: x → y → x
c.toml, line 17: `question.cohort`: column 9: expected an event name or `(`, found the end
c.toml, line 19: `question.by`: `fortnight` is not a period: write hour, day, week, month or year
c.toml, line 20: `question.rows`: `0` is not a whole number from 1 to 400
c.toml, line 21: `question.returning_and`: column 2: expected an event name or `(`, found the end
c.toml, line 4: `question.rows`: 400 cohorts × 400 periods are 160000 cells, and a table holds at most 20000: ask for fewer of either
"#);
        assert!(![types, syntax, values].concat().contains("hunter2"));
        let bytes = b"title = \"Acme\"\n[labels]\na = \"Caf\xe9\"\nb = 2\n";
        let clock = Clock::Fixed(parse_moment("2026-11-23").unwrap());
        let errors = File::read("c.toml", bytes, clock, |_| None).unwrap_err();
        let lines: Vec<String> = errors.iter().map(|e| e.in_file("c.toml")).collect();
        assert_eq!(
            lines,
            [
                "c.toml, line 3: `a`: byte 9 of this line is not UTF-8: save the file as UTF-8",
                "c.toml, line 4: `labels.b`: must be text in quotes, or { name = \"Opened the app\", did = \"opened the app\" }, not a whole number"
            ]
        );
    }

    /// If the time grew faster than the size of the text, each would take minutes or end the process.
    #[test]
    fn texts_that_are_no_configuration_are_refused_quickly_in_a_few_lines() {
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
            filled(&|_| "This is a line of text, and no more.\n".to_owned()),
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
            let errors = File::read("c.toml", &text, clock, |_| None).unwrap_err();
            let report = report("c.toml", &errors);
            let lines: Vec<&str> = report.lines().collect();
            assert!(lines.len() <= MAX_REPORTED + 1, "{shown}: {report}");
            assert!(
                lines.iter().all(|line| line.len() < 400),
                "{shown}: {report}"
            );
            let further =
                crate::render::thousands((errors.len().saturating_sub(MAX_REPORTED)) as u64);
            let rest = format!("c.toml: {further} more mistakes; is this a configuration file?");
            assert_eq!(
                report.ends_with(&rest),
                errors.len() > MAX_REPORTED + 1,
                "{shown}: {report}"
            );
        }
    }

    #[test]
    fn a_question_has_the_settings_of_a_url() {
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
