//! Segments: expressions over event *names*, without a period.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use crate::calendar::Period;
use crate::sets::labels::{Labels, labelled};
use crate::sets::parse::{Expr, is_special, parse};
use crate::sets::{EventName, Set, SyntaxError, Terms, TooLarge, When};

/// An expression over event names, such as `active & (web | ios)`, `signup & premium@ever` or
/// `active & !ios`.
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
    /// Users who did the event in the period for which the segment is evaluated.
    Event(EventName),
    /// Users in the undated bitmap of the event, for every period: `premium@ever`.
    Ever(EventName),
    /// Users in all of these segments.
    And(Vec<Segment>),
    /// Users in any of these segments.
    Or(Vec<Segment>),
    /// Users in an odd number of these segments.
    Xor(Vec<Segment>),
    /// Users in the first segment but not in the second.
    Diff(Box<Segment>, Box<Segment>),
}

impl Segment {
    /// Creates the segment of one event.
    pub fn event(name: &EventName) -> Segment {
        Segment::Event(name.clone())
    }

    /// Returns the users of the segment in one period.
    pub fn at(&self, period: Period) -> Set {
        self.build(&|name| Set::event_in(name, period))
    }

    /// Returns the users of the segment, with the undated bitmaps of all events.
    pub fn ever(&self) -> Set {
        self.build(&Set::ever)
    }

    /// Returns the segment with `@ever` after each name.
    fn to_ever(&self) -> Segment {
        let all = |list: &[Segment]| list.iter().map(Segment::to_ever).collect();
        match self {
            Segment::Event(name) | Segment::Ever(name) => Segment::Ever(name.clone()),
            Segment::And(list) => Segment::And(all(list)),
            Segment::Or(list) => Segment::Or(all(list)),
            Segment::Xor(list) => Segment::Xor(all(list)),
            Segment::Diff(a, b) => Segment::Diff(Box::new(a.to_ever()), Box::new(b.to_ever())),
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

    /// Returns the users in this segment and in all of `others`.
    pub fn and_all(self, others: impl IntoIterator<Item = Segment>) -> Segment {
        let mut list = vec![self];
        list.extend(others);
        if list.len() == 1 {
            list.remove(0)
        } else {
            Segment::And(list)
        }
    }

    /// Returns the text of the segment with the labels of its events instead of their names, to be
    /// shown to people. It cannot be parsed.
    ///
    /// ```
    /// use cohortist::sets::{EventName, Labels, Segment};
    /// let labels: Labels = [(EventName::new("active")?, "Are active".to_owned())].into();
    /// let shown = |text: &str| text.parse::<Segment>().map(|segment| segment.with_labels(&labels));
    /// assert_eq!(shown("active")?, "Are active");
    /// assert_eq!(shown("active@ever & (web | ios)")?, "Are active@ever & (web | ios)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_labels(&self, labels: &Labels) -> String {
        match self {
            Segment::Event(name) => labels
                .get(name)
                .cloned()
                .unwrap_or_else(|| self.to_string()),
            _ => labelled(&self.to_string(), labels),
        }
    }

    /// Returns the event names in the segment, in order of appearance, without duplicates.
    pub fn names(&self) -> Vec<&EventName> {
        let mut names = Vec::new();
        let mut seen = HashSet::new();
        self.visit(&mut |name, _| {
            if seen.insert(name) {
                names.push(name);
            }
        });
        names
    }

    /// Passes every event name in the segment to `each`, duplicates included, and whether it refers
    /// to the undated bitmap.
    pub fn visit<'a>(&'a self, each: &mut dyn FnMut(&'a EventName, bool)) {
        match self {
            Segment::Event(name) => each(name, false),
            Segment::Ever(name) => each(name, true),
            Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => {
                list.iter().for_each(|s| s.visit(each))
            }
            Segment::Diff(a, b) => {
                a.visit(each);
                b.visit(each);
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
                    let message =
                        "a segment gets its periods from the report; only `@ever` is allowed here";
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

/// Returns the precedence of an operator. An operand of the same or a lower precedence needs
/// parentheses.
fn precedence(segment: &Segment) -> u8 {
    match segment {
        Segment::Or(_) => 1,
        Segment::Xor(_) => 2,
        Segment::And(_) | Segment::Diff(..) => 3,
        Segment::Event(_) | Segment::Ever(_) => 4,
    }
}

/// Writes an event name, in quotes if necessary.
struct QuotedName<'a>(&'a EventName);

impl fmt::Display for QuotedName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        if text.contains(is_special) {
            write!(f, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            f.write_str(text)
        }
    }
}

/// Writes a text that `parse` reads back.
impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = precedence(self);
        let operand = |f: &mut fmt::Formatter<'_>, s: &Segment| {
            if precedence(s) <= own {
                write!(f, "({s})")
            } else {
                write!(f, "{s}")
            }
        };
        let (list, symbol) = match self {
            Segment::Event(name) => return write!(f, "{}", QuotedName(name)),
            Segment::Ever(name) => return write!(f, "{}@ever", QuotedName(name)),
            Segment::Diff(a, b) => {
                // `a & b & !c` means (a & b) without c, so the left side needs no parentheses.
                if precedence(a) < own {
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

/// Saved segments: names for expressions. An expression may use the names of other saved segments.
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
    /// The number of event names in each segment after expansion.
    sizes: BTreeMap<EventName, usize>,
}

/// The size of an expanded segment.
#[derive(Debug, Clone, Copy)]
struct Expansion {
    names: usize,
    /// The longest chain of references to other segments; 0 for a name that is not a segment.
    depth: usize,
}

/// The maximum number of event names in an expanded segment. Segments that refer to other segments
/// can grow exponentially.
const MAX_NAMES: usize = 10_000;

/// The maximum length of a chain of references between segments. Expansion is recursive.
const MAX_DEPTH: usize = 100;

/// Why saved segments are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// A segment refers to itself. The string shows the names along the cycle.
    #[error("the saved segment `{0}` refers to itself: {1}")]
    Cycle(EventName, String),
    /// A segment has too many event names after expansion.
    #[error("the saved segment `{0}` expands to more than {MAX_NAMES} events")]
    TooLarge(EventName),
    /// A segment refers to segments that refer to other segments, over too many levels.
    #[error("the saved segment `{0}` refers to other segments over more than {MAX_DEPTH} levels")]
    TooDeep(EventName),
}

impl SegmentError {
    /// Returns the name of the segment that is not valid.
    pub fn name(&self) -> &EventName {
        match self {
            SegmentError::Cycle(name, _)
            | SegmentError::TooLarge(name)
            | SegmentError::TooDeep(name) => name,
        }
    }
}

impl Segments {
    /// Creates a collection of saved segments.
    ///
    /// # Errors
    /// Returns an error if a segment refers to itself, directly or through others, if it refers to
    /// others over more than 100 levels, or if it expands to more than 10,000 events.
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

    /// Returns the size of a name after expansion. `path` holds the segments that are being
    /// expanded, and `sizes` the results so far.
    fn measure(
        &self,
        name: &EventName,
        path: &mut Vec<EventName>,
        sizes: &mut BTreeMap<EventName, Expansion>,
    ) -> Result<Expansion, SegmentError> {
        let Some(segment) = self.named.get(name) else {
            return Ok(Expansion { names: 1, depth: 0 });
        };
        if let Some(size) = sizes.get(name) {
            return Ok(*size);
        }
        let is_cycle = path.contains(name);
        path.push(name.clone());
        if is_cycle {
            let path: Vec<&str> = path.iter().map(EventName::as_str).collect();
            return Err(SegmentError::Cycle(name.clone(), path.join(" → ")));
        }
        if path.len() > MAX_DEPTH {
            return Err(SegmentError::TooDeep(name.clone()));
        }
        let mut leaves = Vec::new();
        segment.visit(&mut |leaf, _| leaves.push(leaf));
        let mut whole = Expansion { names: 0, depth: 0 };
        for leaf in leaves {
            let part = self.measure(leaf, path, sizes)?;
            whole.names = whole.names.saturating_add(part.names);
            whole.depth = whole.depth.max(part.depth + 1);
        }
        path.pop();
        if whole.names > MAX_NAMES {
            return Err(SegmentError::TooLarge(name.clone()));
        }
        if whole.depth > MAX_DEPTH {
            return Err(SegmentError::TooDeep(name.clone()));
        }
        sizes.insert(name.clone(), whole);
        Ok(whole)
    }

    /// Iterates over the names and segments, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&EventName, &Segment)> {
        self.named.iter()
    }

    /// Returns a saved segment, not expanded.
    pub fn get(&self, name: &EventName) -> Option<&Segment> {
        self.named.get(name)
    }

    /// Replaces the names of saved segments in a segment by their expressions, repeatedly.
    ///
    /// # Errors
    /// Returns an error if the result has more names than [`MAX_TERMS`](crate::sets::MAX_TERMS).
    pub fn expand(&self, segment: &Segment) -> Result<Segment, TooLarge> {
        let mut names = 0;
        // A name that is not a saved segment is an event.
        segment.visit(&mut |name, _| names += self.sizes.get(name).copied().unwrap_or(1));
        Terms::default().count(names)?;
        Ok(self.expand_all(segment))
    }

    fn expand_all(&self, segment: &Segment) -> Segment {
        let all = |list: &[Segment]| list.iter().map(|s| self.expand_all(s)).collect();
        match segment {
            Segment::Event(name) => self.expand_name(name),
            Segment::Ever(name) => self.expand_name(name).to_ever(),
            Segment::And(list) => Segment::And(all(list)),
            Segment::Or(list) => Segment::Or(all(list)),
            Segment::Xor(list) => Segment::Xor(all(list)),
            Segment::Diff(a, b) => {
                Segment::Diff(Box::new(self.expand_all(a)), Box::new(self.expand_all(b)))
            }
        }
    }

    /// Returns the expanded segment of a name, or the segment of the event if it is not a saved
    /// segment.
    pub fn expand_name(&self, name: &EventName) -> Segment {
        match self.named.get(name) {
            Some(segment) => self.expand_all(segment),
            None => Segment::event(name),
        }
    }
}
