//! Segments: expressions over event *names*, not yet tied to a period.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use crate::calendar::Period;
use crate::sets::parse::{Expr, is_special, labelled, parse};
use crate::sets::{EventName, Set, SyntaxError, Terms, TooLarge, When};

/// An expression over event names: `active & (web | ios)`, `signup & premium@ever`, `active &
/// !ios`.
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

    /// The segment with `@ever` at each of its names.
    fn undated(&self) -> Segment {
        let all = |list: &[Segment]| list.iter().map(Segment::undated).collect();
        match self {
            Segment::Event(name) | Segment::Ever(name) => Segment::Ever(name.clone()),
            Segment::And(list) => Segment::And(all(list)),
            Segment::Or(list) => Segment::Or(all(list)),
            Segment::Xor(list) => Segment::Xor(all(list)),
            Segment::Diff(a, b) => Segment::Diff(Box::new(a.undated()), Box::new(b.undated())),
        }
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
        if list.len() == 1 {
            list.remove(0)
        } else {
            Segment::And(list)
        }
    }

    /// The segment for people: its events by their labels. Not for [`parse`](str::parse) to read
    /// back.
    ///
    /// ```
    /// use cohortist::sets::{EventName, Labels, Segment};
    /// let labels: Labels = [(EventName::new("active")?, "Are active".to_owned())].into();
    /// let called = |text: &str| text.parse::<Segment>().map(|segment| segment.called(&labels));
    /// assert_eq!(called("active")?, "Are active");
    /// assert_eq!(called("active@ever & (web | ios)")?, "Are active@ever & (web | ios)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn called(&self, labels: &Labels) -> String {
        match self {
            Segment::Event(name) => labels
                .get(name)
                .cloned()
                .unwrap_or_else(|| self.to_string()),
            _ => labelled(&self.to_string(), labels),
        }
    }

    /// The event names in it, in order of appearance, each once.
    pub fn names(&self) -> Vec<&EventName> {
        let (mut names, mut seen) = (Vec::new(), HashSet::new());
        self.visit(&mut |name, _| {
            if seen.insert(name) {
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
            Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => {
                list.iter().for_each(|s| s.visit(seen))
            }
            Segment::Diff(a, b) => {
                a.visit(seen);
                b.visit(seen);
            }
        }
    }

    fn from_expr(expr: &Expr) -> Result<Segment, SyntaxError> {
        let all = |list: &[Expr]| {
            list.iter()
                .map(Segment::from_expr)
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match expr {
            Expr::Name { name, .. } => Segment::Event(name.clone()),
            Expr::At {
                inner,
                when,
                column,
            } => match (&**inner, when) {
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
            Expr::Diff(a, b) => Segment::Diff(
                Box::new(Segment::from_expr(a)?),
                Box::new(Segment::from_expr(b)?),
            ),
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

/// What events are called in prose, where that is not their name: `Are active` for `active`.
pub type Labels = BTreeMap<EventName, String>;

/// A label as a part of an expression: where it could be taken for more of it, it stands in quotes.
pub(super) fn operand(label: &str) -> String {
    let unclear = label.contains(|c: char| is_special(c) && !c.is_whitespace());
    if unclear {
        format!("“{label}”")
    } else {
        label.to_owned()
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
            if level(s) <= above {
                write!(f, "({s})")
            } else {
                write!(f, "{s}")
            }
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
///
/// ```
/// use cohortist::sets::{EventName, Segments};
/// let saved = [("mobile", "ios | android"), ("paying", "plan:pro@ever & mobile")];
/// let saved = Segments::new(saved.map(|(name, text)| (EventName::new(name).unwrap(), text.parse().unwrap())))?;
/// assert_eq!(saved.expand(&"active & !paying".parse()?)?.to_string(), "active & !(plan:pro@ever & (ios | android))");
/// assert_eq!(saved.expand(&"mobile@ever".parse()?)?.to_string(), "ios@ever | android@ever");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segments {
    named: BTreeMap<EventName, Segment>,
    /// How many names each holds when it is written out.
    sizes: BTreeMap<EventName, usize>,
}

/// A segment when it is written out.
#[derive(Debug, Clone, Copy)]
struct Measured {
    names: usize,
    /// Over how many steps it is made of other names; 0 of a name that is not saved.
    depth: usize,
}

/// The most names an expanded segment may hold: names of names grow fast.
const MAX_NAMES: usize = 10_000;

/// The most steps over which a segment may be made of others: they are followed by recursion.
const MAX_DEPTH: usize = 100;

/// Saved segments that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// It is made of itself; the names along the circle.
    #[error("the saved segment `{0}` is made of itself: {1}")]
    Cycle(EventName, String),
    /// Written out it holds too many names.
    #[error("the saved segment `{0}`, written out, holds more than {MAX_NAMES} events")]
    TooLarge(EventName),
    /// It is made of saved segments that are made of saved segments, over too many steps.
    #[error("the saved segment `{0}` is made of others over more than {MAX_DEPTH} steps")]
    TooDeep(EventName),
}

impl SegmentError {
    /// The segment it is about.
    pub fn name(&self) -> &EventName {
        match self {
            SegmentError::Cycle(name, _)
            | SegmentError::TooLarge(name)
            | SegmentError::TooDeep(name) => name,
        }
    }
}

impl Segments {
    /// Checks a collection of saved segments.
    ///
    /// # Errors
    /// When one is made of itself, of others over more than 100 steps, or of more than some 10,000
    /// events.
    pub fn new(
        named: impl IntoIterator<Item = (EventName, Segment)>,
    ) -> Result<Self, SegmentError> {
        let mut segments = Segments {
            named: named.into_iter().collect(),
            sizes: BTreeMap::new(),
        };
        let mut sizes = BTreeMap::new();
        for name in segments.named.keys() {
            segments.measure(name, &mut Vec::new(), &mut sizes)?;
        }
        segments.sizes = sizes
            .into_iter()
            .map(|(name, measured)| (name, measured.names))
            .collect();
        Ok(segments)
    }

    /// What a saved segment is when it is written out, or a name that is not saved.
    fn measure(
        &self,
        name: &EventName,
        inside: &mut Vec<EventName>,
        known: &mut BTreeMap<EventName, Measured>,
    ) -> Result<Measured, SegmentError> {
        let Some(meaning) = self.named.get(name) else {
            return Ok(Measured { names: 1, depth: 0 });
        };
        if let Some(measured) = known.get(name) {
            return Ok(*measured);
        }
        let again = inside.contains(name);
        inside.push(name.clone());
        if again {
            let path: Vec<&str> = inside.iter().map(EventName::as_str).collect();
            return Err(SegmentError::Cycle(name.clone(), path.join(" → ")));
        }
        if inside.len() > MAX_DEPTH {
            return Err(SegmentError::TooDeep(name.clone()));
        }
        let mut leaves = Vec::new();
        meaning.visit(&mut |leaf, _| leaves.push(leaf));
        let mut whole = Measured { names: 0, depth: 0 };
        for leaf in leaves {
            let part = self.measure(leaf, inside, known)?;
            whole.names = whole.names.saturating_add(part.names);
            whole.depth = whole.depth.max(part.depth + 1);
        }
        inside.pop();
        if whole.names > MAX_NAMES {
            return Err(SegmentError::TooLarge(name.clone()));
        }
        if whole.depth > MAX_DEPTH {
            return Err(SegmentError::TooDeep(name.clone()));
        }
        known.insert(name.clone(), whole);
        Ok(whole)
    }

    /// Names and what they stand for, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&EventName, &Segment)> {
        self.named.iter()
    }

    /// What a saved name stands for, as it was written.
    pub fn get(&self, name: &EventName) -> Option<&Segment> {
        self.named.get(name)
    }

    /// The segment with every saved name replaced by what it stands for.
    ///
    /// # Errors
    /// When it then has more names than [`MAX_TERMS`](crate::sets::MAX_TERMS).
    pub fn expand(&self, segment: &Segment) -> Result<Segment, TooLarge> {
        let mut names = 0;
        segment.visit(&mut |name, _| names += self.sizes.get(name).copied().unwrap_or(1));
        Terms::default().count(names)?;
        Ok(self.write_out(segment))
    }

    fn write_out(&self, segment: &Segment) -> Segment {
        let all = |list: &[Segment]| list.iter().map(|s| self.write_out(s)).collect();
        match segment {
            Segment::Event(name) => self.expand_name(name),
            Segment::Ever(name) => self.expand_name(name).undated(),
            Segment::And(list) => Segment::And(all(list)),
            Segment::Or(list) => Segment::Or(all(list)),
            Segment::Xor(list) => Segment::Xor(all(list)),
            Segment::Diff(a, b) => {
                Segment::Diff(Box::new(self.write_out(a)), Box::new(self.write_out(b)))
            }
        }
    }

    /// What a single name stands for: a saved expression, written out, or the event itself.
    pub fn expand_name(&self, name: &EventName) -> Segment {
        match self.named.get(name) {
            Some(meaning) => self.write_out(meaning),
            None => Segment::event(name),
        }
    }
}
