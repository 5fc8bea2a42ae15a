//! Event names on the command line: they are checked, and names without data get a hint.

use crate::cli::output::Usage;
use crate::sets::{EventName, Segment};

/// Checks the name of an event.
pub fn event(text: &str) -> Result<EventName, Usage> {
    EventName::new(text).map_err(|error| Usage(error.to_string()))
}

/// Continues a sentence about an unknown event: `; did you mean …?`, or what else to do.
pub fn hint(name: &EventName, known: &[EventName]) -> String {
    if known.is_empty() {
        return "; this store has no events yet".to_owned();
    }
    let similar: Vec<String> = name
        .similar(known)
        .into_iter()
        .map(|name| format!("`{}`", Segment::event(name)))
        .collect();
    if similar.is_empty() {
        "; `cohortist events` lists all events".to_owned()
    } else {
        format!("; did you mean {}?", similar.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_get_a_hint() {
        let known: Vec<EventName> = ["active", "signup", "song:played", "a|b"]
            .iter()
            .map(|name| EventName::new(name).unwrap())
            .collect();
        let hint = |name: &str, known: &[EventName]| hint(&EventName::new(name).unwrap(), known);
        assert_eq!(hint("singup", &known), "; did you mean `signup`?");
        assert_eq!(hint("Active", &known), "; did you mean `active`?");
        assert_eq!(hint("zzz", &known), "; `cohortist events` lists all events");
        assert_eq!(hint("zzz", &[]), "; this store has no events yet");
    }
}
