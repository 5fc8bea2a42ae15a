//! The labels of events, and expressions with labels instead of names.

use std::collections::BTreeMap;

use crate::sets::EventName;
use crate::sets::parse::{Token, is_call, is_special, tokens};

/// The labels of events, which are shown to people instead of their names: `Are active` for
/// `active`.
pub type Labels = BTreeMap<EventName, String>;

/// Returns the text of a segment or a set with the labels of its events instead of their names, to
/// be shown to people. A text that is not valid is returned unchanged.
///
/// ```
/// use cohortist::sets::{EventName, Labels, labelled};
/// let labels: Labels = [(EventName::new("active")?, "Are active".to_owned())].into();
/// assert_eq!(labelled("(active|web)@2026-11 & \"active\"@ever", &labels), "(Are active|web)@2026-11 & Are active@ever");
/// # Ok::<(), cohortist::sets::EventNameError>(())
/// ```
pub fn labelled(text: &str, labels: &Labels) -> String {
    if labels.is_empty() {
        return text.to_owned();
    }
    let Ok(tokens) = tokens(text) else {
        return text.to_owned();
    };
    let chars: Vec<char> = text.chars().collect();
    let mut labelled = String::with_capacity(text.len());
    let mut is_period = false;
    let mut copied = 0;
    for (i, (column, token)) in tokens.iter().enumerate() {
        let next = tokens
            .get(i + 1)
            .map_or(chars.len(), |(column, _)| column - 1);
        let is_function = is_call(&tokens[i..]);
        let label = match token {
            Token::Word(name) | Token::Quoted(name) if !is_period && !is_function => {
                EventName::new(name).ok().and_then(|name| labels.get(&name))
            }
            _ => None,
        };
        if let Some(label) = label {
            let token = &chars[column - 1..next];
            let blanks = token.iter().rev().take_while(|c| c.is_whitespace()).count();
            labelled.extend(&chars[copied..column - 1]);
            labelled.push_str(&operand(label));
            copied = next - blanks;
        }
        is_period = *token == Token::Symbol('@');
    }
    labelled.extend(&chars[copied..]);
    labelled
}

/// Returns a label as a part of an expression. A label that contains operators is quoted.
pub(super) fn operand(label: &str) -> String {
    let is_ambiguous = label.contains(|c: char| is_special(c) && !c.is_whitespace());
    if is_ambiguous {
        format!("“{label}”")
    } else {
        label.to_owned()
    }
}
