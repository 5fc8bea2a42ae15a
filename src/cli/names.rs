//! Event names as people type them: checked, and with a hint when nothing was recorded under one.

use crate::cli::output::Usage;
use crate::sets::{EventName, Segment};

/// Checks an event's name.
pub fn event(text: &str) -> Result<EventName, Usage> {
    EventName::new(text).map_err(|error| Usage(error.to_string()))
}

/// `; did you mean …?`, or what else to do.
pub fn hint(name: &EventName, known: &[EventName]) -> String {
    let similar: Vec<String> = name
        .similar(known)
        .into_iter()
        .map(|name| format!("`{}`", Segment::event(name)))
        .collect();
    if known.is_empty() {
        "; this store has no events yet".to_owned()
    } else if similar.is_empty() {
        "; `cohortist events` lists what there is".to_owned()
    } else {
        format!("; did you mean {}?", similar.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_get_a_hint() {
        let known: Vec<EventName> = ["active", "signup", "song:played", "a|b"]
            .iter()
            .map(|name| EventName::new(name).unwrap())
            .collect();
        let hint = |name: &str, known: &[EventName]| hint(&EventName::new(name).unwrap(), known);
        assert_eq!(hint("singup", &known), "; did you mean `signup`?");
        assert_eq!(hint("Active", &known), "; did you mean `active`?");
        assert_eq!(
            hint("zzz", &known),
            "; `cohortist events` lists what there is"
        );
        assert_eq!(hint("zzz", &[]), "; this store has no events yet");
    }
}
