//! What an import did, for people.

use crate::cli::import::skipped::Skipped;
use crate::cli::import::writer::Tally;
use crate::cli::output::{TooManySkipped, note};
use crate::ingest::{Dating, Fault, Names, Property};
use crate::render::{many, thousands};
use crate::tracker::Ids;
use crate::values::Unit;

/// What an import did.
pub struct Summary<'a> {
    /// The number of files.
    pub files: u64,
    pub tally: &'a Tally,
    pub skipped: &'a Skipped,
    /// The numbers of lines that were imported and skipped before the import was resumed.
    pub before: u64,
    pub skipped_before: u64,
    pub names: &'a Names,
    pub property_values: usize,
    pub ids: Ids,
    pub is_dry_run: bool,
}

impl Summary<'_> {
    /// Returns a summary such as
    ///
    /// ```text
    /// imported 6,919 marks of 1 event by 2,357 users from 1 file, skipped 3 lines
    /// 6,922 lines, from 1997-01-01 to 1998-06-30
    /// skipped 3 lines (0.04 %):
    ///   3 without a user, such as a.csv, line 7: `user` is empty
    /// ```
    pub fn text(&self) -> String {
        let tally = self.tally;
        let skipped = self.skipped.total();
        let properties = self.properties();
        let mut more = String::new();
        if !properties.is_empty() {
            let values: usize = properties.iter().map(|property| property.values()).sum();
            let values = many(values as u64, "value");
            let noun = if properties.len() == 1 {
                "property"
            } else {
                "properties"
            };
            more += &format!(", {values} of {} {noun}", properties.len());
        }
        if skipped > 0 {
            more += &format!(", skipped {}", many(skipped, "line"));
        }
        if self.before > 0 {
            more += &format!("; {} were imported before", many(self.before, "mark"));
        }
        let files = many(self.files, "file");
        let verb = if self.is_dry_run {
            "would import"
        } else {
            "imported"
        };
        let mut text = match tally.records {
            0 => format!("{verb} nothing from {files}{more}"),
            records => format!(
                "{verb} {} of {} by {} from {files}{more}",
                many(records, "mark"),
                many(tally.events.len() as u64, "event"),
                many(tally.users.count, "user"),
            ),
        };
        if let Some((first, last)) = tally.days {
            let lines = many(tally.records + skipped, "line");
            let days = match first == last {
                true => format!("on {}", day(first)),
                false => format!("from {} to {}", day(first), day(last)),
            };
            text += &format!("\n{lines}, {days}");
        }
        if skipped > 0 {
            let lines = many(skipped, "line");
            text += &format!("\nskipped {lines} ({}):", self.percentage());
            for (fault, lines, example) in self.skipped.reasons() {
                text += &format!("\n  {} {fault}, such as {example}", thousands(lines));
            }
        }
        text
    }

    /// Returns the properties, without the patterns of their names.
    fn properties(&self) -> Vec<&Property> {
        let properties = self.names.properties().iter();
        properties.filter(|property| !property.is_pattern).collect()
    }

    /// Returns the number of lines that were read, and how many of them were skipped.
    fn lines(&self) -> (u64, u64) {
        let skipped = self.skipped.total() + self.skipped_before;
        (self.tally.records + self.before + skipped, skipped)
    }

    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    fn percent(&self) -> f64 {
        let (lines, skipped) = self.lines();
        match lines {
            0 => 0.0,
            _ => 100.0 * skipped as f64 / lines as f64,
        }
    }

    fn percentage(&self) -> String {
        let percent = self.percent();
        match percent {
            0.0..0.1 => "less than 0.1 %".to_owned(),
            _ => format!("{percent:.1} %"),
        }
    }

    /// Fails if more lines were skipped than the user accepts.
    pub fn check_skipped(&self, max_percent: f64) -> Result<(), TooManySkipped> {
        if self.percent() <= max_percent {
            return Ok(());
        }
        let hint = match self.ids {
            Ids::Numbers if self.skipped.with(Fault::UserOfOtherKind) > 0 => {
                "create a store with --ids map for ids that are not whole numbers up to 4294967295"
            }
            _ if self.skipped.with(Fault::NoUser) > 0 => {
                "name other columns that hold the user with --user-column NAME,NAME"
            }
            _ => "correct the file or the options and import it again",
        };
        Err(TooManySkipped(format!(
            "{} of the lines were skipped, more than {max_percent} %; the others were imported. To change this, {hint}, or accept it with --max-skipped",
            self.percentage(),
        )))
    }

    /// Prints what is worth a note although lines are valid.
    pub fn print_notes(&self) {
        self.note_values();
        self.note_properties();
        for (name, held) in self.tally.several_values(self.names) {
            let users = many(held.users, "user");
            note!(
                "{} of {users} have more than one value of `{name}`: `{name}:VALUE@ever` has all who ever had a value. For the value in each period use --property {name}:dated, for the newest one only {name}:current",
                thousands(held.several),
            );
        }
    }

    fn note_values(&self) {
        let notes = self.names.notes();
        for unit in Unit::ALL {
            let times = notes.times_in(unit);
            if times > 0 && unit != Unit::Seconds {
                let verb = if times == 1 { "was" } else { "were" };
                note!(
                    "{} {verb} read as {unit} since 1970, because of the size (see --time-unit)",
                    many(times, "time")
                );
            }
        }
        let merged: Vec<&str> = notes.merged_names().collect();
        if let [first, ..] = merged[..] {
            note!(
                "the file writes {} in several ways, which differ only by white space or by composed characters. Each is one event, such as `{first}`",
                many(merged.len() as u64, "event name")
            );
        }
        let zeros = &notes.leading_zeros;
        if zeros.lines > 0 {
            note!(
                "user ids with leading zeros, on {}, were read as numbers, so that `{}` and the same number without zeros are one user. To keep them apart, import into a new store with --ids map",
                many(zeros.lines, "line"),
                zeros.first
            );
        }
        let floats = &notes.floats;
        match self.ids {
            Ids::Strings if floats.lines > 0 => note!(
                "user ids such as `{}`, on {}, look like numbers that a program wrote with a fraction. They are stored as they are, and are other users than the whole numbers",
                floats.first,
                many(floats.lines, "line")
            ),
            _ => {}
        }
        let composed = &notes.composed;
        if composed.lines > 0 {
            note!(
                "the characters of user ids such as `{}`, on {}, were composed (Unicode NFC), so that ids that look the same are one user",
                composed.first,
                many(composed.lines, "line")
            );
        }
    }

    fn note_properties(&self) {
        for property in self.names.properties() {
            let name = &property.name;
            if property.is_pattern {
                let is_match = |other: &&Property| {
                    !other.is_pattern && crate::ingest::matches(name, &other.name)
                };
                if self.names.properties().iter().find(is_match).is_none() {
                    note!("no line has a property that matches `{name}`");
                }
                if property.beyond > 0 {
                    note!(
                        "`{name}` matches more properties than can be imported; the others were skipped"
                    );
                }
                continue;
            }
            if property.rows == 0 && property.unusable == 0 && property.values() == 0 {
                note!("no line has the property `{name}`");
            }
            if property.beyond > 0 {
                note!(
                    "`{name}` has more than {} different values; the others, on {}, were skipped (see --property-values)",
                    thousands(self.property_values as u64),
                    many(property.beyond, "line"),
                );
            }
            if property.unusable > 0 {
                note!(
                    "the value of `{name}` on {} cannot become an event name: it is too long, contains control characters, or is a list or an object",
                    many(property.unusable, "line")
                );
            }
            if property.dating == Dating::Current && self.before > 0 {
                note!("the newest values of `{name}` are those of the lines that were read now");
            }
        }
    }
}

fn day(seconds: i64) -> impl std::fmt::Display {
    chrono::DateTime::from_timestamp(seconds, 0)
        .expect("a row has a supported time")
        .format("%Y-%m-%d")
}
