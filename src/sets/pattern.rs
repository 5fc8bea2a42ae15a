//! Patterns of event names.

use crate::sets::EventName;

/// An event's name, or with a `*` at its end all names that begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Reads `active`, `country:*` or `*`.
    pub fn new(text: impl Into<String>) -> Self {
        Pattern(text.into())
    }

    /// Whether the name is meant.
    pub fn fits(&self, name: &EventName) -> bool {
        match self.0.strip_suffix('*') {
            Some(beginning) => name.as_str().starts_with(beginning),
            None => name.as_str() == self.0,
        }
    }
}
