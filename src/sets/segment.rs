//! Segments: expressions over event *names*, without a period.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use crate::calendar::Period;
use crate::sets::parse::{Expr, Function, is_special, parse};
use crate::sets::{
    Catalogue, EventName, Known, Offsets, Pattern, SyntaxError, Terms, TooLarge, When,
};

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
    /// Users who did any event whose name begins with this text, in the period: `plan:*`.
    Names(String),
    /// Users in the undated bitmap of any such event: `plan:*@ever`.
    NamesEver(String),
    /// Users who were in the segment in any earlier recorded period: `before(active)`.
    Before(Box<Segment>),
    /// Users who are in the segment for the first time: `first(active)`.
    First(Box<Segment>),
    /// Users who were in the segment in any of the periods around the one for which it is
    /// evaluated: `within(active, -4..-1)`.
    Within(Box<Segment>, Offsets),
    /// Users who were in the segment in at least this many of those periods:
    /// `atleast(3, active, -6..0)`.
    AtLeast(u32, Box<Segment>, Offsets),
}

impl Segment {
    /// Returns the text of the set of its users in a period: `active@2026-11-23`, `(a & b)@2026-W48`.
    pub fn in_period(&self, period: Period) -> String {
        match self {
            Segment::Event(_) => format!("{self}@{period}"),
            _ => format!("({self})@{period}"),
        }
    }

    /// Creates the segment of one event.
    pub fn event(name: &EventName) -> Segment {
        Segment::Event(name.clone())
    }

    /// Returns the segment with each [`Event`](Self::Event), [`Ever`](Self::Ever),
    /// [`Names`](Self::Names) and [`NamesEver`](Self::NamesEver) replaced by `leaf`'s result.
    pub fn map_leaves(&self, leaf: &dyn Fn(&Segment) -> Segment) -> Segment {
        let all = |list: &[Segment]| list.iter().map(|s| s.map_leaves(leaf)).collect();
        let one = |of: &Segment| Box::new(of.map_leaves(leaf));
        match self {
            Segment::Event(_) | Segment::Ever(_) | Segment::Names(_) | Segment::NamesEver(_) => {
                leaf(self)
            }
            Segment::And(list) => Segment::And(all(list)),
            Segment::Or(list) => Segment::Or(all(list)),
            Segment::Xor(list) => Segment::Xor(all(list)),
            Segment::Diff(a, b) => Segment::Diff(one(a), one(b)),
            Segment::Before(of) => Segment::Before(one(of)),
            Segment::First(of) => Segment::First(one(of)),
            Segment::Within(of, offsets) => Segment::Within(one(of), *offsets),
            Segment::AtLeast(least, of, offsets) => Segment::AtLeast(*least, one(of), *offsets),
        }
    }

    /// Returns the segment with `@ever` after each name.
    pub(super) fn to_ever(&self) -> Segment {
        self.map_leaves(&|leaf| match leaf {
            Segment::Event(name) => Segment::Ever(name.clone()),
            Segment::Names(start) => Segment::NamesEver(start.clone()),
            other => other.clone(),
        })
    }

    /// Returns whether the segment contains a function such as `first(…)`.
    pub fn has_function(&self) -> bool {
        match self {
            Segment::Event(_) | Segment::Ever(_) | Segment::Names(_) | Segment::NamesEver(_) => {
                false
            }
            Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => {
                list.iter().any(Segment::has_function)
            }
            Segment::Diff(a, b) => a.has_function() || b.has_function(),
            Segment::Before(_) | Segment::First(_) | Segment::Within(..) | Segment::AtLeast(..) => {
                true
            }
        }
    }

    /// Returns whether the segment cannot be evaluated without the catalogue: it contains `first`,
    /// `before` or a pattern. Names of saved segments are not looked up.
    fn reads_catalogue(&self) -> bool {
        match self {
            // The catalogue tells whether the name exists as it is written.
            Segment::Event(name) | Segment::Ever(name) => name.composed().is_some(),
            Segment::Names(_) | Segment::NamesEver(_) | Segment::Before(_) | Segment::First(_) => {
                true
            }
            Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => {
                list.iter().any(Segment::reads_catalogue)
            }
            Segment::Diff(a, b) => a.reads_catalogue() || b.reads_catalogue(),
            Segment::Within(of, _) | Segment::AtLeast(_, of, _) => of.reads_catalogue(),
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
            // A pattern names no event until it is expanded.
            Segment::Names(_) | Segment::NamesEver(_) => {}
            Segment::Before(of)
            | Segment::First(of)
            | Segment::Within(of, _)
            | Segment::AtLeast(_, of, _) => of.visit(each),
        }
    }

    /// Passes the argument of each `first` and `before` in the segment to `each`.
    pub fn visit_histories<'a>(&'a self, each: &mut dyn FnMut(&'a Segment)) {
        match self {
            Segment::Event(_) | Segment::Ever(_) | Segment::Names(_) | Segment::NamesEver(_) => {}
            Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => {
                list.iter().for_each(|part| part.visit_histories(each))
            }
            Segment::Diff(a, b) => {
                a.visit_histories(each);
                b.visit_histories(each);
            }
            Segment::Before(of) | Segment::First(of) => each(of),
            Segment::Within(of, _) | Segment::AtLeast(_, of, _) => of.visit_histories(each),
        }
    }

    pub(super) fn from_expr(expr: &Expr) -> Result<Segment, SyntaxError> {
        let all = |list: &[Expr]| {
            list.iter()
                .map(Segment::from_expr)
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(match expr {
            Expr::Name { name, .. } => Segment::Event(name.clone()),
            Expr::Names { start, .. } => Segment::Names(start.clone()),
            Expr::Function {
                function,
                of,
                column,
            } => {
                let of = Box::new(Segment::from_expr(of)?);
                let segment = match function {
                    Function::Before => Segment::Before(of),
                    Function::First => Segment::First(of),
                    Function::Within(offsets) => Segment::Within(of, *offsets),
                    Function::AtLeast(least, offsets) => Segment::AtLeast(*least, of, *offsets),
                };
                check_functions(&segment)
                    .map_err(|error| SyntaxError::new(*column, error.to_string()))?;
                segment
            }
            Expr::At {
                inner,
                when,
                column,
            } => match (&**inner, when) {
                (Expr::Name { name, .. }, When::Ever) => Segment::Ever(name.clone()),
                (Expr::Names { start, .. }, When::Ever) => Segment::NamesEver(start.clone()),
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

/// Why a function has no meaning for its argument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// `first` or `before` of undated bitmaps.
    #[error(
        "`{function}` needs an event with dates: an undated bitmap does not say when somebody did `{of}`"
    )]
    Undated {
        /// The name of the function.
        function: &'static str,
        /// Its argument.
        of: Segment,
    },
    /// `first` or `before` of a segment that contains a function.
    #[error(
        "`{function}` takes no other function inside: write {function}(a) & {function}(b), or use within(…)"
    )]
    Nested {
        /// The name of the outer function.
        function: &'static str,
    },
}

/// Checks that every function in a segment has a meaning.
fn check_functions(segment: &Segment) -> Result<(), FunctionError> {
    let first = |function: &'static str, of: &Segment| {
        if of.is_undated() {
            let of = of.clone();
            Err(FunctionError::Undated { function, of })
        } else if of.has_function() {
            Err(FunctionError::Nested { function })
        } else {
            Ok(())
        }
    };
    match segment {
        Segment::Event(_) | Segment::Ever(_) | Segment::Names(_) | Segment::NamesEver(_) => Ok(()),
        Segment::And(list) | Segment::Or(list) | Segment::Xor(list) => {
            list.iter().try_for_each(check_functions)
        }
        Segment::Diff(a, b) => {
            check_functions(a)?;
            check_functions(b)
        }
        Segment::Before(of) => first("before", of),
        Segment::First(of) => first("first", of),
        Segment::Within(of, _) | Segment::AtLeast(_, of, _) => check_functions(of),
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
        _ => 4,
    }
}

/// Writes an event name, in quotes if necessary.
struct QuotedName<'a>(&'a EventName);

impl fmt::Display for QuotedName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        // Inside a function a comma separates arguments, and a final `*` makes a pattern.
        if text.contains(is_special) || text.contains(',') || text.ends_with('*') {
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
            Segment::Names(start) => return write!(f, "{start}*"),
            Segment::NamesEver(start) => return write!(f, "{start}*@ever"),
            Segment::Before(of) => return write!(f, "before({of})"),
            Segment::First(of) => return write!(f, "first({of})"),
            Segment::Within(of, offsets) => return write!(f, "within({of}, {offsets})"),
            Segment::AtLeast(least, of, offsets) => {
                return write!(f, "atleast({least}, {of}, {offsets})");
            }
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
/// use cohortist::sets::{Catalogue, EventName, Segments};
/// let saved = [("mobile", "ios | android"), ("paying", "plan:pro@ever & mobile")];
/// let saved = Segments::new(saved.map(|(name, text)| (EventName::new(name).unwrap(), text.parse().unwrap())))?;
/// let expanded = |text: &str| saved.expand(&text.parse().unwrap(), &Catalogue::default(), &[]).map(|s| s.to_string());
/// assert_eq!(expanded("active & !paying")?, "active & !(plan:pro@ever & (ios | android))");
/// assert_eq!(expanded("mobile@ever")?, "ios@ever | android@ever");
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

    /// Replaces the names of saved segments in a segment by their expressions, repeatedly, and
    /// patterns by the events of the catalogue that they match. The name of an event that does not
    /// exist is composed (Unicode NFC) if that one exists. `*` alone matches all events except
    /// the hidden ones.
    ///
    /// # Errors
    /// Returns an error if the result has more names than [`MAX_TERMS`](crate::sets::MAX_TERMS), or
    /// if a pattern matches too many events.
    pub fn expand(
        &self,
        segment: &Segment,
        catalogue: &Catalogue,
        hidden: &[Pattern],
    ) -> Result<Segment, ExpandError> {
        let mut names = 0;
        // A name that is not a saved segment is an event.
        segment.visit(&mut |name, _| names += self.sizes.get(name).copied().unwrap_or(1));
        Terms::default().count(names)?;
        let expanded = self.expand_names(segment);
        self.check_undated(segment)?;
        check_functions(&expanded)?;
        let too_many = Cell::new(None);
        let expanded = expanded.map_leaves(&|leaf| match leaf {
            Segment::Names(start) | Segment::NamesEver(start) => {
                let is_ever = matches!(leaf, Segment::NamesEver(_));
                let events = matching(start, is_ever, catalogue, hidden);
                if !start.is_empty() && events.len() > MAX_MATCHES {
                    too_many.set(Some(events.len()));
                    return leaf.clone();
                }
                let of = if is_ever {
                    Segment::Ever
                } else {
                    Segment::Event
                };
                Segment::Or(events.into_iter().cloned().map(of).collect())
            }
            Segment::Event(name) => Segment::Event(existing(name, catalogue)),
            Segment::Ever(name) => Segment::Ever(existing(name, catalogue)),
            other => other.clone(),
        });
        match too_many.get() {
            None => Ok(expanded),
            Some(found) => Err(ExpandError::TooManyMatches {
                segment: segment.clone(),
                found,
            }),
        }
    }

    fn expand_names(&self, segment: &Segment) -> Segment {
        segment.map_leaves(&|leaf| match leaf {
            Segment::Event(name) => self.expand_name(name),
            Segment::Ever(name) => self.expand_name(name).to_ever(),
            other => other.clone(),
        })
    }

    /// Returns whether a segment, with the saved segments it refers to, cannot be evaluated without
    /// the catalogue: it contains `first`, `before` or a pattern.
    pub fn read_catalogue(&self, segment: &Segment) -> bool {
        let mut seen = HashSet::new();
        let mut waiting = vec![segment];
        while let Some(segment) = waiting.pop() {
            if segment.reads_catalogue() {
                return true;
            }
            let new = segment
                .names()
                .into_iter()
                .filter(|name| seen.insert(*name));
            waiting.extend(new.filter_map(|name| self.named.get(name)));
        }
        false
    }

    /// Checks that no saved segment with a function is used with `@ever`.
    fn check_undated(&self, segment: &Segment) -> Result<(), ExpandError> {
        let mut refused = None;
        segment.visit(&mut |name, is_ever| {
            if is_ever && self.expand_name(name).has_function() {
                refused = Some(name.clone());
            }
        });
        match refused {
            None => Ok(()),
            Some(name) => Err(ExpandError::UndatedFunction(name)),
        }
    }

    /// Returns the expanded segment of a name, or the segment of the event if it is not a saved
    /// segment. Patterns are not expanded.
    pub fn expand_name(&self, name: &EventName) -> Segment {
        match self.named.get(name) {
            Some(segment) => self.expand_names(segment),
            None => Segment::event(name),
        }
    }
}

/// Returns the name of an event as it is written, or else composed, if only that exists.
fn existing(name: &EventName, catalogue: &Catalogue) -> EventName {
    let composed = name
        .composed()
        .filter(|composed| catalogue.event(name).is_none() && catalogue.event(composed).is_some());
    composed.unwrap_or_else(|| name.clone())
}

/// The maximum number of events that a pattern with a beginning may match.
pub const MAX_MATCHES: usize = 1_000;

/// Why a segment cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// It has too many names.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A saved segment makes a function meaningless: `first(team)` where `team` is `first(active)`.
    #[error(transparent)]
    Function(#[from] FunctionError),
    /// A saved segment that looks at periods is used without one.
    #[error(
        "`{0}@ever` has no meaning: the saved segment `{0}` holds a function, which looks at periods"
    )]
    UndatedFunction(EventName),
    /// A pattern in it matches too many events.
    #[error(
        "a pattern in `{segment}` matches {found} events; at most {MAX_MATCHES} are allowed. Write a longer beginning"
    )]
    TooManyMatches {
        /// The segment.
        segment: Segment,
        /// How many events match.
        found: usize,
    },
}

/// Returns the events with this beginning that have a dated or an undated bitmap.
fn matching<'a>(
    start: &str,
    is_ever: bool,
    catalogue: &'a Catalogue,
    hidden: &[Pattern],
) -> Vec<&'a EventName> {
    let is_hidden =
        |name: &EventName| start.is_empty() && hidden.iter().any(|pattern| pattern.fits(name));
    let has_bitmap = |known: &&Known| {
        let keys = catalogue.of_known(known);
        keys.iter().any(|key| (key.when() == When::Ever) == is_ever)
    };
    catalogue
        .events()
        .filter(|known| known.event.as_str().starts_with(start) && !is_hidden(&known.event))
        .filter(has_bitmap)
        .map(|known| &known.event)
        .collect()
}
