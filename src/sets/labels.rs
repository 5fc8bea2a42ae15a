//! The labels of events, and expressions with labels instead of names.

use std::collections::BTreeMap;

use crate::sets::parse::{Token, is_call, is_special, parse, tokens};
use crate::sets::{EventName, Segment};

/// How people read an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// What is shown instead of the event's name: `Opened the app` for `active`.
    pub name: String,
    /// What somebody did, to complete "people who …": `opened the app`.
    pub did: Option<String>,
}

/// The labels of events, which are shown to people instead of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<EventName, Label>);

impl<N: Into<String>> FromIterator<(EventName, N)> for Labels {
    fn from_iter<T: IntoIterator<Item = (EventName, N)>>(labels: T) -> Self {
        let label = |name: N| Label {
            name: name.into(),
            did: None,
        };
        let labels = labels.into_iter();
        Labels(labels.map(|(event, name)| (event, label(name))).collect())
    }
}

impl<N: Into<String>, const COUNT: usize> From<[(EventName, N); COUNT]> for Labels {
    fn from(labels: [(EventName, N); COUNT]) -> Self {
        labels.into_iter().collect()
    }
}

impl Labels {
    /// No labels.
    pub const fn new() -> Self {
        Labels(BTreeMap::new())
    }

    /// Sets the label of an event.
    pub fn insert(&mut self, event: EventName, label: Label) {
        self.0.insert(event, label);
    }

    /// Returns the label of an event, if it has one.
    pub fn get(&self, event: &EventName) -> Option<&str> {
        self.0.get(event).map(|label| label.name.as_str())
    }

    /// Returns what somebody did who did an event: `opened the app`. `None` without a phrase.
    pub fn did(&self, event: &EventName) -> Option<&str> {
        self.0.get(event)?.did.as_deref()
    }

    /// Returns the number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the labels of some events only.
    #[must_use]
    pub fn of<'a>(&self, events: impl IntoIterator<Item = &'a EventName>) -> Labels {
        let known = |event: &EventName| Some((event.clone(), self.0.get(event)?.clone()));
        Labels(events.into_iter().filter_map(known).collect())
    }

    /// Returns the events that a text is the label of. Case counts only if that leaves some.
    fn events(&self, text: &str) -> Vec<&EventName> {
        let of = |is: &dyn Fn(&str) -> bool| -> Vec<&EventName> {
            let found = self.0.iter().filter(|(_, label)| is(&label.name));
            found.map(|(event, _)| event).collect()
        };
        let exact = of(&|name| name == text);
        if exact.is_empty() {
            let text = text.to_lowercase();
            return of(&|name| name.to_lowercase() == text);
        }
        exact
    }
}

impl Segment {
    /// Returns the text of the segment with the labels of its events instead of their names, to be
    /// shown to people. It cannot be parsed.
    ///
    /// ```
    /// use cohortist::sets::{EventName, Labels, Segment};
    /// let labels: Labels = [(EventName::new("active")?, "Are active")].into();
    /// let shown = |text: &str| text.parse::<Segment>().map(|segment| segment.with_labels(&labels));
    /// assert_eq!(shown("active")?, "Are active");
    /// assert_eq!(shown("active@ever & (web | ios)")?, "Are active@ever & (web | ios)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_labels(&self, labels: &Labels) -> String {
        match self {
            Segment::Event(name) => labels
                .get(name)
                .map_or_else(|| self.to_string(), str::to_owned),
            _ => labelled(&self.to_string(), labels),
        }
    }
}

/// A label that several events have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{label}` is the label of {}: write the name of one of them",
    listed(events)
)]
pub struct AmbiguousLabel {
    /// The label, as it was written.
    pub label: String,
    /// The events.
    pub events: Vec<EventName>,
}

fn listed(events: &[EventName]) -> String {
    let names: Vec<String> = events
        .iter()
        .map(|event| format!("`{}`", Segment::event(event)))
        .collect();
    match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// Returns the text of a segment or a set with the names of events instead of their labels. A label
/// need not be in quotes unless it contains operators. An event that is called exactly like the
/// label of another is itself, as `is_event` says.
///
/// ```
/// use cohortist::sets::{EventName, Labels, resolved};
/// let labels: Labels = [(EventName::new("signup")?, "Signed up")].into();
/// let names = |text: &str| resolved(text, &labels, &|_| false);
/// assert_eq!(names("Signed up@2026-11 & first(signed up)")?, "signup@2026-11 & first(signup)");
/// assert_eq!(resolved("\"Signed up\"", &labels, &|_| true)?, "\"Signed up\"");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns an error for a label that several events have.
pub fn resolved(
    text: &str,
    labels: &Labels,
    is_event: &dyn Fn(&EventName) -> bool,
) -> Result<String, AmbiguousLabel> {
    if labels.is_empty() {
        return Ok(text.to_owned());
    }
    let name_of = |label: &str| -> Result<Option<String>, AmbiguousLabel> {
        if EventName::new(label).is_ok_and(|name| is_event(&name)) {
            return Ok(None);
        }
        match &labels.events(label)[..] {
            [] => Ok(None),
            [event] => Ok(Some(Segment::event(event).to_string())),
            several => Err(AmbiguousLabel {
                label: label.to_owned(),
                events: several.iter().copied().cloned().collect(),
            }),
        }
    };
    let replaced = replaced(text, &name_of)?;
    // A label with operators in it, as a whole.
    if parse(&replaced).is_err()
        && let Some(name) = name_of(text.trim())?
    {
        return Ok(name);
    }
    Ok(replaced)
}

/// Returns the text of a segment or a set with the labels of its events instead of their names, for
/// a field: [`resolved`] turns it into the same segment or set.
///
/// ```
/// use cohortist::sets::{EventName, Labels, typed};
/// let labels: Labels = [
///     (EventName::new("signup")?, "Signed up"),
///     (EventName::new("web")?, "Web (all)"),
///     (EventName::new("a")?, "Same"),
///     (EventName::new("b")?, "Same"),
/// ].into();
/// let shown = |text: &str| typed(text, &labels, &|_| false);
/// assert_eq!(shown("signup & !(web | a)@ever"), "Signed up & !(\"Web (all)\" | a)@ever");
/// assert_eq!(typed("signup", &labels, &|_| true), "signup", "another event is called “Signed up”");
/// # Ok::<(), cohortist::sets::EventNameError>(())
/// ```
pub fn typed(text: &str, labels: &Labels, is_event: &dyn Fn(&EventName) -> bool) -> String {
    let label_of = |name: &str| -> Result<Option<String>, std::convert::Infallible> {
        let label = EventName::new(name).ok().and_then(|event| {
            let label = labels.get(&event)?;
            let is_its_own = labels.events(label) == [&event];
            let is_taken = EventName::new(label).is_ok_and(|other| is_event(&other));
            (is_its_own && !is_taken).then_some(label)
        });
        Ok(label.map(in_field))
    };
    let Ok(shown) = replaced(text, &label_of);
    shown
}

/// Returns a label as a part of an expression that can be read again.
fn in_field(label: &str) -> String {
    let plain = !label.is_empty()
        && label.split(' ').all(|word| {
            let is_plain = |c: char| !is_special(c) && !matches!(c, ',' | '*' | '\\');
            !word.is_empty() && word.chars().all(is_plain)
        });
    match plain {
        true => label.to_owned(),
        false => format!("\"{}\"", label.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// Returns the text of a segment or a set with the labels of its events instead of their names, to
/// be shown to people. A text that is not valid is returned unchanged.
///
/// ```
/// use cohortist::sets::{EventName, Labels, labelled};
/// let labels: Labels = [(EventName::new("active")?, "Are active")].into();
/// assert_eq!(labelled("(active|web)@2026-11 & \"active\"@ever", &labels), "(Are active|web)@2026-11 & Are active@ever");
/// # Ok::<(), cohortist::sets::EventNameError>(())
/// ```
pub fn labelled(text: &str, labels: &Labels) -> String {
    let label_of = |name: &str| -> Result<Option<String>, std::convert::Infallible> {
        let event = EventName::new(name).ok();
        Ok(event.and_then(|event| labels.get(&event)).map(operand))
    };
    let Ok(shown) = replaced(text, &label_of);
    shown
}

/// Replaces each name in an expression for which `other` returns a text. Adjacent words are one
/// name. A text that has no tokens is returned unchanged.
fn replaced<E>(text: &str, other: &dyn Fn(&str) -> Result<Option<String>, E>) -> Result<String, E> {
    let Ok(tokens) = tokens(text) else {
        return Ok(text.to_owned());
    };
    let chars: Vec<char> = text.chars().collect();
    let begin = |i: usize| tokens.get(i).map_or(chars.len(), |(column, _)| column - 1);
    let mut shown = String::with_capacity(text.len());
    let mut copied = 0;
    let mut i = 0;
    while let Some((_, token)) = tokens.get(i) {
        let from = i;
        i += 1;
        let name = match token {
            Token::Symbol('@') => {
                // A period follows.
                i += 1;
                continue;
            }
            Token::Word(_) if is_call(&tokens[from..]) => continue,
            Token::Symbol(_) => continue,
            Token::Quoted(name) => name.clone(),
            Token::Word(first) => {
                let mut name = first.clone();
                while let Some((_, Token::Word(word))) = tokens.get(i) {
                    name.push(' ');
                    name.push_str(word);
                    i += 1;
                }
                name
            }
        };
        if let Some(other) = other(&name)? {
            let token = &chars[begin(from)..begin(i)];
            let blanks = token.iter().rev().take_while(|c| c.is_whitespace()).count();
            shown.extend(&chars[copied..begin(from)]);
            shown.push_str(&other);
            copied = begin(i) - blanks;
        }
    }
    shown.extend(&chars[copied..]);
    Ok(shown)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        let named = [
            ("signup", "Signed up"),
            ("active", "Opened the app"),
            ("web", "Web | mobile"),
            ("a", "Twice"),
            ("b", "Twice"),
        ];
        let named = named.map(|(event, label)| (EventName::new(event).unwrap(), label));
        named.into()
    }

    #[test]
    fn labels_are_read_wherever_a_name_may_stand() {
        let names = |text: &str| resolved(text, &labels(), &|_| false).unwrap();
        assert_eq!(names("Signed up"), "signup");
        assert_eq!(
            names(" Signed  up & !Opened the app "),
            " signup & !active "
        );
        assert_eq!(names("\"Signed up\"@ever"), "signup@ever");
        assert_eq!(
            names("within(Opened the app, -4..-1) | atleast(2, opened the app, -3..0)"),
            "within(active, -4..-1) | atleast(2, active, -3..0)"
        );
        assert_eq!(
            names("(Signed up | \"Web | mobile\")@2026-11"),
            "(signup | web)@2026-11"
        );
        // As a whole, without quotes.
        assert_eq!(names("Web | mobile"), "Web | mobile", "it is an expression");
        assert_eq!(names("signup & !"), "signup & !");
        let known = |name: &EventName| name.as_str() == "Signed up";
        assert_eq!(
            resolved("\"Signed up\"", &labels(), &known).unwrap(),
            "\"Signed up\""
        );
    }

    #[test]
    fn a_label_of_two_events_names_both() {
        let error = resolved("twice | web", &labels(), &|_| false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`twice` is the label of `a` and `b`: write the name of one of them"
        );
        let known = |name: &EventName| name.as_str() == "twice";
        assert_eq!(resolved("twice", &labels(), &known).unwrap(), "twice");
    }

    #[test]
    fn a_field_shows_what_it_can_read_again() {
        for text in [
            "signup",
            "signup & !(active | web)@2026-11",
            "first(signup) & a",
            "within(active, -4..-1)",
            "\"x y\"@ever",
            "plan:*@ever",
        ] {
            let shown = typed(text, &labels(), &|_| false);
            assert_eq!(resolved(&shown, &labels(), &|_| false).unwrap(), text);
        }
        assert_eq!(
            typed("active & a", &labels(), &|_| false),
            "Opened the app & a"
        );
    }
}
