//! `[collect]`: what analytics libraries may record.

use super::spanned_toml::{SpannedToml, Table, Text};
use crate::server::{Collect, Origin, Pattern};
use crate::sets::EventName;

pub const RULE: &str =
    "must be a table, [collect], with lines such as keys = [\"a-key-of-16-characters\"]";

/// The shortest write key, in characters.
const MIN_KEY: usize = 16;

impl SpannedToml {
    pub fn collect(
        &mut self,
        mut table: Table<'_>,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Collect {
        let mut collect = Collect::default();
        let at = table.at;
        let keys = self.texts(&mut table, "keys");
        if keys.as_ref().is_none_or(Vec::is_empty) {
            let key = table.key_of("keys");
            let hint = "a library must name one of the write keys, such as keys = [\"$WRITE_KEY\"]";
            self.missing(at, &key, hint);
        }
        for text in keys.unwrap_or_default() {
            let key = table.key_of("keys");
            collect.keys.extend(self.write_key(&key, text, variable));
        }
        for text in self.texts(&mut table, "origins").unwrap_or_default() {
            match text.text.parse::<Origin>() {
                Ok(origin) => collect.origins.push(origin),
                Err(error) => self.error(text.at, table.key_of("origins"), error),
            }
        }
        if let Some(events) = self.texts(&mut table, "events") {
            let key = table.key_of("events");
            let patterns = events
                .into_iter()
                .filter_map(|text| self.pattern(&key, text));
            collect.events = patterns.collect::<Vec<Pattern>>();
        }
        for text in self.texts(&mut table, "properties").unwrap_or_default() {
            let key = table.key_of("properties");
            match EventName::new(&text.text) {
                Ok(_) if text.text.contains(':') => {
                    let message = "must be the name of a property, without a colon: its values become events such as `plan:pro`";
                    self.error(text.at, key, message);
                }
                Ok(_) => collect.properties.push(text.text),
                Err(error) => self.error(text.at, key, error.to_string()),
            }
        }
        for (name, flag) in [
            ("anonymous", &mut collect.anonymous),
            ("hourly", &mut collect.hourly),
        ] {
            let key = table.key_of(name);
            if let Some(given) = table.take(name).and_then(|entry| self.flag(&key, entry)) {
                *flag = given;
            }
        }
        self.finish(table);
        collect
    }

    pub(super) fn texts(&mut self, table: &mut Table<'_>, name: &'static str) -> Option<Vec<Text>> {
        let key = table.key_of(name);
        let entry = table.take(name)?;
        Some(self.list(&key, entry).unwrap_or_default())
    }

    /// A write key, or the environment variable that holds it. Messages do not repeat it.
    fn write_key(
        &mut self,
        key: &str,
        text: Text,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let value = match text.text.strip_prefix('$') {
            None => text.text,
            Some(name) => match variable(name).filter(|value| !value.is_empty()) {
                Some(value) => value,
                None => {
                    let message = format!("the environment variable {name} is not set");
                    self.error(text.at, key, message);
                    return None;
                }
            },
        };
        // Names and passwords of HTTP Basic are divided by a colon.
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if value.len() < MIN_KEY || !value.bytes().all(is_allowed) {
            let message = format!(
                "a write key has at least {MIN_KEY} ASCII letters, digits and punctuation characters, without spaces and colons"
            );
            self.error(text.at, key, message);
            return None;
        }
        Some(value)
    }
}
