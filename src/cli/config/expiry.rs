//! `[expire]`: how long bitmaps are kept, and when at night what is over goes.
//!
//! What is read here deletes data unattended, so nothing is guessed: a span that is no span, or a
//! name that is not known, is a fault like any other, and a server does not start with one.

use chrono::NaiveTime;

use super::Entry;
use super::spanned_toml::{SpannedToml, Table};
use crate::cli::expire::{Expiry, span};

/// What to write where something else is written in place of the table.
pub(super) const WANTED: &str = "a table, [expire], with lines such as days = \"400d\"";

/// When nothing is said: little is asked of a store then, in most places where people have users.
const AT: NaiveTime = match NaiveTime::from_hms_opt(3, 0, 0) {
    Some(at) => at,
    None => NaiveTime::MIN,
};

/// What `[expire]` says.
pub(super) struct Kept {
    pub expiry: Expiry,
    pub at: NaiveTime,
    /// Where it says so; nowhere without it, or when something is wrong in it, which has been told
    /// then.
    whole: Option<usize>,
}

impl Default for Kept {
    fn default() -> Self {
        Kept {
            expiry: Expiry::default(),
            at: AT,
            whole: None,
        }
    }
}

impl SpannedToml<'_> {
    pub(super) fn kept(&mut self, mut table: Table<'_>) -> Kept {
        let (place, faults) = (table.at, self.faults.len());
        let key = table.inside("at");
        let at = table
            .take("at")
            .and_then(|entry| self.time(&key, entry))
            .and_then(|words| {
                let read = ["%H:%M", "%H:%M:%S"]
                    .iter()
                    .find_map(|form| NaiveTime::parse_from_str(&words.text, form).ok());
                if read.is_none() {
                    self.fault(
                        words.at,
                        &key,
                        "write a time of day in UTC from \"00:00\" to \"23:59\", such as \"03:00\"",
                    );
                }
                read
            });
        let expiry = self.spans(&mut table);
        self.end(table);
        Kept {
            expiry,
            at: at.unwrap_or(AT),
            whole: (self.faults.len() == faults).then_some(place),
        }
    }

    /// A store's own, in place of the file's: without a line in it everything is kept.
    pub(super) fn kept_of_store(
        &mut self,
        table: &mut Table<'_>,
        read_only: Option<(bool, usize)>,
    ) -> Option<Expiry> {
        let key = table.inside("expire");
        let entry = table.take("expire")?;
        let mut own = self.table(
            &key,
            entry,
            "what is kept for how long, such as { hours = \"30d\", days = \"400d\" }",
        )?;
        let expiry = self.spans(&mut own);
        self.end(own);
        if read_only.is_some_and(|(flag, _)| flag) && !expiry.policy.is_for_good() {
            self.fault(
                entry.at(),
                key,
                "the store is read-only, so nothing of it goes: leave one of the two out",
            );
        }
        Some(expiry)
    }

    /// Tells of an `[expire]` from which nothing ever goes: whoever wrote it believes otherwise.
    pub(super) fn kept_something(&mut self, kept: &Kept, stores: &[Entry]) {
        let goes = |expiry: &Expiry| !expiry.policy.is_for_good();
        if let Some(at) = kept.whole.filter(|_| !self.broken)
            && !goes(&kept.expiry)
            && !stores.iter().any(|store| goes(&store.expire))
        {
            let message = "says of nothing how long it is kept: write hours = \"30d\", days = \"400d\", weeks or months";
            self.fault(at, "expire", message);
        }
    }

    fn spans(&mut self, table: &mut Table<'_>) -> Expiry {
        let mut expiry = Expiry::default();
        let kinds = [
            ("hours", &mut expiry.policy.hours),
            ("days", &mut expiry.policy.days),
            ("weeks", &mut expiry.policy.weeks),
            ("months", &mut expiry.policy.months),
        ];
        let mut said = Vec::new();
        for (name, kept) in kinds {
            let key = table.inside(name);
            let Some(words) = table.take(name).and_then(|entry| self.span(&key, entry)) else {
                continue;
            };
            match span(&words.text) {
                Ok(span) => {
                    *kept = Some(span);
                    said.push(format!("{name} {}", words.text.trim()));
                }
                Err(message) => self.fault(words.at, key, message),
            }
        }
        expiry.words = said.join(", ");
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
        let told = File::read("c.toml", text, clock, |_| None);
        told.map_err(|faults| {
            faults
                .iter()
                .map(|f| f.told("c.toml"))
                .collect::<Vec<_>>()
                .join("\n")
        })
    }

    #[test]
    fn a_store_keeps_as_the_file_says_or_as_it_says_itself() {
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
            (file.expire.policy, file.expire.words.as_str()),
            (both, "hours 30d, days 400d")
        );
        assert_eq!(file.expire_at, NaiveTime::from_hms_opt(23, 30, 0).unwrap());
        assert_eq!(file.summary(), "3 stores, kept for hours 30d, days 400d");
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
    fn a_slip_is_told_with_its_whole_key_and_keeps_the_server_from_starting() {
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
        let told = texts.map(|text| read(text).unwrap_err()).join("\n");
        insta::assert_snapshot!(told, @r#"
c.toml, line 2: `expire.days`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 3: `expire.hours`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 4: `expire.weeks`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 5: `expire.months`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 2: `expire.days`: write a span in quotes, such as "30d"; this is a whole number
c.toml, line 3: `expire.hours`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 4: `expire.week`: there is no such setting; did you mean `weeks`?
c.toml, line 5: `expire.events`: there is no such setting; there are at, hours, days, weeks, months
c.toml, line 2: `expire.days`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 3: `expire.at`: write a time of day in UTC from "00:00" to "23:59", such as "03:00"
c.toml, line 3: `expire.at`: write a time of day in UTC from "00:00" to "23:59", such as "03:00"
c.toml, line 3: `expire.at`: write a time of day in quotes, such as "03:00"; this is a whole number
c.toml, line 1: `expire`: says of nothing how long it is kept: write hours = "30d", days = "400d", weeks or months
c.toml, line 1: `expire`: write a table, [expire], with lines such as days = "400d"; this is text
c.toml, line 2: `stores.a.expire.days`: write a span of at least an hour, such as 36h, 30d, 2w or 1y
c.toml, line 2: `stores.a.expire.at`: there is no such setting; there are hours, days, weeks, months
c.toml, line 2: `stores.a.expire.dais`: there is no such setting; did you mean `days`?
c.toml, line 3: `stores.b.expire`: write what is kept for how long, such as { hours = "30d", days = "400d" }; this is text
c.toml, line 4: `stores.c.expire`: the store is read-only, so nothing of it goes: leave one of the two out
c.toml, line 3: `stores.a.expire`: the store is read-only, so nothing of it goes: leave one of the two out
"#);
    }
}
