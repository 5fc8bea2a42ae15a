//! Segments: expressions over event *names*, not yet tied to a period.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::calendar::Period;
use crate::sets::parse::{Expr, is_special, parse};
use crate::sets::{EventName, Set, SyntaxError, When};

/// An expression over event names: `active & (web | ios)`, `signup & premium@ever`, `active & !ios`.
///
/// ```
/// use cohortist::sets::Segment;
/// let segment: Segment = "active&( web|ios )".parse()?;
/// assert_eq!(segment.to_string(), "active & (web | ios)");
/// let error = "active & !".parse::<Segment>().unwrap_err();
/// assert_eq!(error.to_string(), "column 11: expected an event name or `(`, found the end");
/// # Ok::<(), cohortist::sets::SyntaxError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Users who did the event in the period the segment is tied to.
    Event(EventName),
    /// Users in the undated bitmap, the same for every period: `premium@ever`.
    Ever(EventName),
    /// In all of these.
    And(Vec<Segment>),
    /// In any of these.
    Or(Vec<Segment>),
    /// In an odd number of these.
    Xor(Vec<Segment>),
    /// In the first and not in the second.
    Diff(Box<Segment>, Box<Segment>),
}

impl Segment {
    /// The segment of one event.
    pub fn event(name: &EventName) -> Segment {
        Segment::Event(name.clone())
    }

    /// The users of the segment in one period.
    pub fn at(&self, period: Period) -> Set {
        self.build(&|name| Set::event_in(name, period))
    }

    /// The segment over undated bitmaps throughout.
    pub fn ever(&self) -> Set {
        self.build(&Set::ever)
    }

    fn build(&self, event: &dyn Fn(&EventName) -> Set) -> Set {
        let all = |list: &[Segment]| list.iter().map(|s| s.build(event)).collect();
        match self {
            Segment::Event(name) => event(name),
            Segment::Ever(name) => Set::ever(name),
            Segment::And(list) => Set::And(all(list)),
            Segment::Or(list) => Set::Or(all(list)),
            Segment::Xor(list) => Set::Xor(all(list)),
            Segment::Diff(a, b) => a.build(event) - b.build(event),
        }
    }

    /// This segment and also all of `others`.
    pub fn and_all(self, others: impl IntoIterator<Item = Segment>) -> Segment {
        let mut list = vec![self];
        list.extend(others);
        if list.len() == 1 { list.remove(0) } else { Segment::And(list) }
    }

    /// The event names in it, in order of appearance, each once.
    pub fn names(&self) -> Vec<&EventName> {
        let mut names = Vec::new();
        self.visit(&mut |name, _| {
            if !names.contains(&name) {
                names.push(name);
            }
        });
        names
    }

    /// The keys' events with whether the undated bitmap is meant.
    pub fn visit<'a>(&'a self, seen: &mut dyn FnMut(&'a EventName, bool)) {
        match self {
            Segment::Event(name) => seen(name, false),
            Segment::Ever(name) => seen(name, true),
            Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => list.iter().for_each(|s| s.visit(seen)),
            Segment::Diff(a, b) => {
                a.visit(seen);
                b.visit(seen);
            }
        }
    }

    fn from_expr(expr: &Expr) -> Result<Segment, SyntaxError> {
        let all = |list: &[Expr]| list.iter().map(Segment::from_expr).collect::<Result<Vec<_>, _>>();
        Ok(match expr {
            Expr::Name { name, .. } => Segment::Event(name.clone()),
            Expr::At { inner, when, column } => match (&**inner, when) {
                (Expr::Name { name, .. }, When::Ever) => Segment::Ever(name.clone()),
                (_, When::Ever) => {
                    let message = "`@ever` follows a single event name: write `a@ever | b@ever`";
                    return Err(SyntaxError::new(*column, message));
                }
                (_, When::In(_)) => {
                    let message = "a segment is tied to its periods by the report; only `@ever` may stand here";
                    return Err(SyntaxError::new(*column, message));
                }
            },
            Expr::And(list) => Segment::And(all(list)?),
            Expr::Or(list) => Segment::Or(all(list)?),
            Expr::Xor(list) => Segment::Xor(all(list)?),
            Expr::Diff(a, b) => Segment::Diff(Box::new(Segment::from_expr(a)?), Box::new(Segment::from_expr(b)?)),
        })
    }
}

impl FromStr for Segment {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Segment::from_expr(&parse(text)?)
    }
}

/// How tightly an operator binds; an operand that binds no tighter stands in parentheses.
fn level(segment: &Segment) -> u8 {
    match segment {
        Segment::Or(_) => 1,
        Segment::Xor(_) => 2,
        Segment::And(_) | Segment::Diff(..) => 3,
        Segment::Event(_) | Segment::Ever(_) => 4,
    }
}

struct Name<'a>(&'a EventName);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        if text.contains(is_special) {
            write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            f.write_str(text)
        }
    }
}

/// The text that `parse` reads back.
impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = level(self);
        let operand = |f: &mut fmt::Formatter<'_>, s: &Segment| {
            if level(s) <= above { write!(f, "({s})") } else { write!(f, "{s}") }
        };
        let (list, symbol) = match self {
            Segment::Event(name) => return write!(f, "{}", Name(name)),
            Segment::Ever(name) => return write!(f, "{}@ever", Name(name)),
            Segment::Diff(a, b) => {
                // `a & b & !c` reads as (a & b) without c, so the left side needs no parentheses.
                if level(a) < above {
                    write!(f, "({a})")?
                } else {
                    write!(f, "{a}")?
                }
                f.write_str(" & !")?;
                return operand(f, b);
            }
            Segment::And(list) => (list, " & "),
            Segment::Or(list) => (list, " | "),
            Segment::Xor(list) => (list, " ^ "),
        };
        for (i, segment) in list.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { symbol })?;
            operand(f, segment)?;
        }
        Ok(())
    }
}

/// Saved segments: names that stand for an expression, which may use other names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments(BTreeMap<EventName, Segment>);

/// Saved segments that use each other in a circle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// The names along the circle.
    #[error("the saved segment `{0}` is made of itself: {1}")]
    Cycle(EventName, String),
}

impl Segments {
    /// Checks a collection of saved segments.
    ///
    /// # Errors
    /// When one is made of itself, over however many steps.
    pub fn new(named: BTreeMap<EventName, Segment>) -> Result<Self, SegmentError> {
        let segments = Segments(named);
        for name in segments.0.keys() {
            segments.expand_name(name)?;
        }
        Ok(segments)
    }

    /// The segment with every saved name replaced by what it stands for.
    ///
    /// # Errors
    /// When a saved name is made of itself.
    pub fn expand(&self, segment: &Segment) -> Result<Segment, SegmentError> {
        self.replace(segment, &mut Vec::new())
    }

    /// What a single name stands for: a saved expression, or the event itself.
    ///
    /// # Errors
    /// When it is made of itself.
    pub fn expand_name(&self, name: &EventName) -> Result<Segment, SegmentError> {
        self.expand(&Segment::event(name))
    }

    fn replace(&self, segment: &Segment, inside: &mut Vec<EventName>) -> Result<Segment, SegmentError> {
        let all = |list: &[Segment], inside: &mut Vec<EventName>| {
            list.iter().map(|s| self.replace(s, inside)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match segment {
            Segment::Event(name) => {
                let Some(meaning) = self.0.get(name) else { return Ok(segment.clone()) };
                if inside.contains(name) {
                    inside.push(name.clone());
                    let path: Vec<&str> = inside.iter().map(EventName::as_str).collect();
                    return Err(SegmentError::Cycle(name.clone(), path.join(" → ")));
                }
                inside.push(name.clone());
                let expanded = self.replace(meaning, inside)?;
                inside.pop();
                expanded
            }
            Segment::Ever(_) => segment.clone(),
            Segment::And(list) => Segment::And(all(list, inside)?),
            Segment::Or(list) => Segment::Or(all(list, inside)?),
            Segment::Xor(list) => Segment::Xor(all(list, inside)?),
            Segment::Diff(a, b) => {
                Segment::Diff(Box::new(self.replace(a, inside)?), Box::new(self.replace(b, inside)?))
            }
        })
    }
}
