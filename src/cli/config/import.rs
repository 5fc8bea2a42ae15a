//! `[import]`: how files are imported.

use super::spanned_toml::{SpannedToml, Table};
use crate::ingest::{Names, Wish};

pub const RULE: &str =
    "must be a table, [import], with a line such as properties = [\"plan:current\"]";

impl SpannedToml {
    /// Returns the properties whose values become events.
    pub fn import(&mut self, mut table: Table<'_>) -> Vec<Wish> {
        let mut properties = Vec::new();
        for text in self.texts(&mut table, "properties").unwrap_or_default() {
            let wish = Wish::from(text.text.as_str());
            match Names::new(std::slice::from_ref(&wish), 1) {
                Ok(_) => properties.push(wish),
                Err(error) => self.error(text.at, table.key_of("properties"), error.to_string()),
            }
        }
        self.finish(table);
        properties
    }
}
