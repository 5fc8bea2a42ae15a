//! `[expire]`: how long bitmaps are kept, and when expired ones are deleted.
//!
//! These settings delete data unattended, so nothing is guessed. A server does not start if one of
//! them is wrong or unknown.

use chrono::NaiveTime;

use super::entry::Entry;
use super::spanned_toml::{SpannedToml, Table};
use crate::cli::expiry::{Expiry, span};

/// What the value of `expire` must be.
pub(super) const RULE: &str = "must be a table, [expire], with lines such as days = \"400d\"";

/// The default time of the cleanup, at which most sites with users in Europe or America are quiet.
const DEFAULT_AT: NaiveTime = NaiveTime::from_hms_opt(3, 0, 0).expect("03:00 exists");

/// The section `[expire]`.
pub(super) struct ExpireSection {
    pub expiry: Expiry,
    pub at: NaiveTime,
    /// The byte offset of the section. `None` if there is no section, or if it has mistakes, which
    /// have been reported.
    valid_at: Option<usize>,
}

impl Default for ExpireSection {
    fn default() -> Self {
        ExpireSection {
            expiry: Expiry::default(),
            at: DEFAULT_AT,
            valid_at: None,
        }
    }
}

impl SpannedToml {
    pub(super) fn expire_section(&mut self, mut table: Table<'_>) -> ExpireSection {
        let errors = self.errors.len();
        let offset = table.at;
        let at = self.cleanup_time(&mut table).unwrap_or(DEFAULT_AT);
        let expiry = self.spans(&mut table);
        self.finish(table);
        ExpireSection {
            expiry,
            at,
            valid_at: (self.errors.len() == errors).then_some(offset),
        }
    }

    fn cleanup_time(&mut self, table: &mut Table<'_>) -> Option<NaiveTime> {
        let key = table.key_of("at");
        let entry = table.take("at")?;
        let time = self.time(&key, entry)?;
        let parsed = ["%H:%M", "%H:%M:%S"]
            .iter()
            .find_map(|format| NaiveTime::parse_from_str(&time.text, format).ok());
        if parsed.is_none() {
            let rule =
                "must be a time of day in UTC from \"00:00\" to \"23:59\", such as \"03:00\"";
            self.error(time.at, &key, rule);
        }
        parsed
    }

    /// The `expire` of one store, which replaces that of the file. An empty one keeps everything.
    pub(super) fn expire_of_store(
        &mut self,
        table: &mut Table<'_>,
        read_only: Option<(bool, usize)>,
    ) -> Option<Expiry> {
        let key = table.key_of("expire");
        let entry = table.take("expire")?;
        let rule = "must be a table such as { hours = \"30d\", days = \"400d\" }";
        let mut own = self.table(&key, entry, rule)?;
        let expiry = self.spans(&mut own);
        self.finish(own);
        if read_only.is_some_and(|(flag, _)| flag) && !expiry.policy.is_for_good() {
            let message = "nothing expires in a read-only store: remove expire or read_only";
            self.error(entry.at(), key, message);
        }
        Some(expiry)
    }

    /// Reports an `[expire]` by which nothing ever expires, which cannot be what its author wants.
    pub(super) fn check_expire_section(&mut self, section: &ExpireSection, stores: &[Entry]) {
        let expires = |expiry: &Expiry| !expiry.policy.is_for_good();
        let is_used = expires(&section.expiry) || stores.iter().any(|store| expires(&store.expire));
        if let Some(at) = section.valid_at
            && !is_used
            && !self.has_syntax_errors
        {
            let message = "keeps everything: add hours = \"30d\", days = \"400d\", weeks or months";
            self.error(at, "expire", message);
        }
    }

    fn spans(&mut self, table: &mut Table<'_>) -> Expiry {
        let mut expiry = Expiry::default();
        let limits = [
            ("hours", &mut expiry.policy.hours),
            ("days", &mut expiry.policy.days),
            ("weeks", &mut expiry.policy.weeks),
            ("months", &mut expiry.policy.months),
        ];
        let mut parts = Vec::new();
        for (name, limit) in limits {
            let key = table.key_of(name);
            let Some(text) = table.take(name).and_then(|entry| self.span(&key, entry)) else {
                continue;
            };
            match span(&text.text) {
                Ok(span) => {
                    *limit = Some(span);
                    parts.push(format!("{name} {}", text.text.trim()));
                }
                Err(message) => self.error(text.at, key, message),
            }
        }
        expiry.description = parts.join(", ");
        expiry
    }
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveTime, TimeDelta};

    use crate::calendar::parse_moment;
    use crate::cli::config::File;
    use crate::clock::Clock;
    use crate::reports::expiry::ExpiryPolicy;

    fn read(text: &str) -> Result<File, String> {
        let clock = Clock::Fixed(parse_moment("2026-11-23T14:05:00Z").unwrap());
        File::read("c.toml", text, clock, |_| None).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(|e| e.in_file("c.toml")).collect();
            lines.join("\n")
        })
    }

    #[test]
    fn a_store_has_the_expiry_of_the_file_or_its_own() {
        let file = read(
            "[stores]\na = \"./a\"\nb = { store = \"./b\", expire = { hours = \"36h\" } }\nc = { store = \"./c\", expire = {} }\n\
             [expire]\nhours = \"30d\"\ndays = \"400d\"\nat = \"23:30\"",
        )
        .unwrap();
        let both = ExpiryPolicy {
            hours: Some(TimeDelta::days(30)),
            days: Some(TimeDelta::days(400)),
            ..ExpiryPolicy::default()
        };
        let own = ExpiryPolicy {
            hours: Some(TimeDelta::hours(36)),
            ..ExpiryPolicy::default()
        };
        let kept: Vec<ExpiryPolicy> = file
            .stores
            .iter()
            .map(|store| store.expire.policy)
            .collect();
        assert_eq!(kept, [both, own, ExpiryPolicy::default()]);
        assert_eq!(
            (file.expire.policy, file.expire.description.as_str()),
            (both, "hours 30d, days 400d")
        );
        assert_eq!(file.expire_at, NaiveTime::from_hms_opt(23, 30, 0).unwrap());
        assert_eq!(
            file.summary(),
            "3 stores, expire after hours 30d, days 400d"
        );
        let three = read("[expire]\nweeks = \"2y\"\nmonths = \"10y\"").unwrap();
        assert_eq!(three.expire_at, NaiveTime::from_hms_opt(3, 0, 0).unwrap());
        assert!(three.expire.policy.weeks.is_some() && three.expire.policy.months.is_some());
        assert_eq!(
            read("[expire]\ndays = \"1y\"\nat = 04:15:00")
                .unwrap()
                .expire_at
                .to_string(),
            "04:15:00"
        );
    }

    #[test]
    fn every_mistake_is_reported_with_its_full_key() {
        let texts = [
            "[expire]\ndays = \"0d\"\nhours = \"-30d\"\nweeks = \"30m\"\nmonths = \"\"",
            "[expire]\ndays = 400\nhours = \"30\"\nweek = \"1y\"\nevents = \"30d\"",
            "[expire]\ndays = \"99999999999999999999y\"\nat = \"24:00\"",
            "[expire]\ndays = \"1y\"\nat = \"at night\"",
            "[expire]\ndays = \"1y\"\nat = 3",
            "[expire]\nat = \"04:00\"",
            "expire = \"30d\"",
            "[stores]\na = { store = \"./a\", expire = { days = \"0d\", at = \"03:00\", dais = \"1y\" } }\n\
             b = { store = \"./b\", expire = \"30d\" }\nc = { store = \"./c\", read_only = true, expire = { days = \"1y\" } }",
            "read_only = true\n[stores]\na = { store = \"./a\", expire = { days = \"1y\" } }",
        ];
        let errors = texts.map(|text| read(text).unwrap_err()).join("\n");
        insta::assert_snapshot!(errors, @r#"
c.toml, line 2: `expire.days`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 3: `expire.hours`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 4: `expire.weeks`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 5: `expire.months`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 2: `expire.days`: must be a span in quotes, such as "30d", not a whole number
c.toml, line 3: `expire.hours`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 4: `expire.week`: unknown setting; did you mean `weeks`?
c.toml, line 5: `expire.events`: unknown setting; the settings are at, hours, days, weeks, months
c.toml, line 2: `expire.days`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 3: `expire.at`: must be a time of day in UTC from "00:00" to "23:59", such as "03:00"
c.toml, line 3: `expire.at`: must be a time of day in UTC from "00:00" to "23:59", such as "03:00"
c.toml, line 3: `expire.at`: must be a time of day in quotes, such as "03:00", not a whole number
c.toml, line 1: `expire`: keeps everything: add hours = "30d", days = "400d", weeks or months
c.toml, line 1: `expire`: must be a table, [expire], with lines such as days = "400d", not text
c.toml, line 2: `stores.a.expire.days`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 2: `stores.a.expire.at`: unknown setting; the settings are hours, days, weeks, months
c.toml, line 2: `stores.a.expire.dais`: unknown setting; did you mean `days`?
c.toml, line 3: `stores.b.expire`: must be a table such as { hours = "30d", days = "400d" }, not text
c.toml, line 4: `stores.c.expire`: nothing expires in a read-only store: remove expire or read_only
c.toml, line 3: `stores.a.expire`: nothing expires in a read-only store: remove expire or read_only
"#);
    }
}
