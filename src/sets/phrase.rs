//! Segments and sets in words.

use crate::calendar::{Grain, Period};
use crate::sets::parse::{Expr, Function, parse};
use crate::sets::{EventName, Labels, Offsets, Segment, When};

/// How periods are written in a sentence.
pub trait PeriodWords {
    /// `November 2026`
    fn name(&self, period: Period) -> String;
    /// `in November 2026`
    fn when(&self, period: Period) -> String;
}

/// Returns what the people of a set did, to complete "people who …", with the labels of its events.
/// `None` for a text that is not a set, or that no sentence makes clearer.
///
/// ```
/// use cohortist::calendar::Period;
/// use cohortist::sets::{Label, Labels, PeriodWords, read_set};
/// struct Plain;
/// impl PeriodWords for Plain {
///     fn name(&self, period: Period) -> String { period.to_string() }
///     fn when(&self, period: Period) -> String { format!("in {period}") }
/// }
/// let mut labels = Labels::from([("active".parse()?, "Opened the app")]);
/// let read = |text: &str, labels: &Labels| read_set(text, labels, &Plain).unwrap();
/// assert_eq!(read("active@2026-11 & !plan:pro@ever", &labels), "did Opened the app in 2026-11 and are not plan pro");
/// labels.insert("active".parse()?, Label { name: "Opened the app".into(), did: Some("opened the app".into()) });
/// assert_eq!(read("active@2026-11 & !signup@2026-10", &labels), "opened the app in 2026-11 and did not do signup in 2026-10");
/// assert_eq!(read("(signup | web) @ 2026 & !active@2026-11", &labels), "either did signup or web in 2026, and are not among those who opened the app in 2026-11");
/// assert_eq!(read("within(active, -2..-1)@2026-11", &labels), "opened the app in any month from 2026-09 to 2026-10");
/// # Ok::<(), cohortist::sets::EventNameError>(())
/// ```
pub fn read_set(text: &str, labels: &Labels, words: &dyn PeriodWords) -> Option<String> {
    let expr = parse(text).ok()?;
    let reader = Reader {
        labels,
        grain: None,
        words: Some(words),
    };
    reader.is_short(&expr).then(|| reader.did(&expr, None))?
}

/// The maximum number of names in a sentence. An expression of more is clearer than a sentence.
const MAX_NAMES: usize = 5;

/// The maximum nesting of operators in a sentence.
const MAX_NESTED: usize = 3;

/// Puts expressions into words.
struct Reader<'a> {
    labels: &'a Labels,
    /// The length of the periods that functions speak of, unless a period says it.
    grain: Option<Grain>,
    words: Option<&'a dyn PeriodWords>,
}

impl Reader<'_> {
    /// Whether an expression is short enough for a sentence.
    fn is_short(&self, expr: &Expr) -> bool {
        fn size(expr: &Expr) -> (usize, usize) {
            let of = |list: &[&Expr]| {
                let sizes = list.iter().map(|part| size(part));
                let (names, depth) = sizes.fold((0, 0), |(names, depth), (more, deep)| {
                    (names + more, depth.max(deep))
                });
                (names, depth + 1)
            };
            match expr {
                Expr::Name { .. } | Expr::Names { .. } => (1, 0),
                Expr::Function { of, .. } => size(of),
                Expr::At { inner, .. } => size(inner),
                Expr::And(list) | Expr::Or(list) | Expr::Xor(list) => {
                    of(&list.iter().collect::<Vec<_>>())
                }
                Expr::Diff(a, b) => of(&[a, b]),
            }
        }
        let (names, depth) = size(expr);
        names <= MAX_NAMES && depth <= MAX_NESTED
    }

    /// Returns what people did. `when` is the time that applies to the names.
    fn did(&self, expr: &Expr, when: Option<When>) -> Option<String> {
        Some(match expr {
            Expr::Name { name, .. } => match when {
                Some(When::Ever) => match self.labels.did(name) {
                    Some(did) => format!("ever {did}"),
                    None => format!("are {}", self.property(name)),
                },
                when => match self.labels.did(name) {
                    Some(did) => self.timed(did, when),
                    None => self.timed(&format!("did {}", self.called(name)), when),
                },
            },
            Expr::Names { start, .. } => match when {
                Some(When::Ever) => format!("are any of {start}*"),
                when => self.timed(&format!("did any of {start}*"), when),
            },
            Expr::At { inner, when, .. } => match when {
                When::In(_) if !depends_on_time(inner) => {
                    self.timed(&self.did(inner, None)?, Some(*when))
                }
                _ => self.did(inner, Some(*when))?,
            },
            Expr::Function { function, of, .. } => self.function(*function, of, when)?,
            Expr::And(list) => self.joined(list, "and", when)?,
            Expr::Or(list) => self.joined(list, "or", when)?,
            Expr::Xor(list) => {
                let [a, b] = &list[..] else { return None };
                let [a, b] = [self.did(a, when)?, self.did(b, when)?];
                format!("either {a} or {b}, but not both")
            }
            Expr::Diff(a, b) => {
                let (did, comma) = match &**a {
                    Expr::Or(_) | Expr::Xor(_) => (self.either(a, when)?, ","),
                    Expr::At { inner, .. } if matches!(**inner, Expr::Or(_)) => {
                        (self.either(a, when)?, ",")
                    }
                    _ => (self.did(a, when)?, ""),
                };
                format!("{did}{comma} and {}", self.did_not(b, when)?)
            }
        })
    }

    /// Returns what people did not do.
    fn did_not(&self, expr: &Expr, when: Option<When>) -> Option<String> {
        Some(match (expr, when) {
            (Expr::At { inner, when, .. }, _) if matches!(**inner, Expr::Name { .. }) => {
                self.did_not(inner, Some(*when))?
            }
            (Expr::Name { name, .. }, Some(When::Ever)) => match self.labels.did(name) {
                Some(did) => format!("never {did}"),
                None => format!("are not {}", self.property(name)),
            },
            (Expr::Name { name, .. }, when) if self.labels.did(name).is_none() => {
                self.timed(&format!("did not do {}", self.called(name)), when)
            }
            _ => format!("are not among those who {}", self.did(expr, when)?),
        })
    }

    /// Joins parts by `and` or `or`. A part of the other kind is set apart.
    fn joined(&self, list: &[Expr], word: &str, when: Option<When>) -> Option<String> {
        let mut joined = String::new();
        for (i, part) in list.iter().enumerate() {
            let (part_is_or, part_is_and) = (
                matches!(part, Expr::Or(_) | Expr::Xor(_)),
                matches!(part, Expr::And(_) | Expr::Diff(..)),
            );
            let did = match word {
                "and" if part_is_or => self.either(part, when)?,
                _ => self.did(part, when)?,
            };
            if i > 0 {
                let comma = if word == "or" && part_is_and { "," } else { "" };
                joined.push_str(&format!("{comma} {word} "));
            }
            let is_plain = |expr: &Expr| matches!(expr, Expr::Name { .. });
            // "did a and b" instead of "did a and did b".
            let is_repeated = i > 0 && is_plain(part) && joined.starts_with("did ");
            let all_plain = list[..i].iter().all(is_plain);
            match did.strip_prefix("did ") {
                Some(rest) if is_repeated && all_plain => joined.push_str(rest),
                _ => joined.push_str(&did),
            }
        }
        Some(joined)
    }

    fn either(&self, expr: &Expr, when: Option<When>) -> Option<String> {
        let did = self.did(expr, when)?;
        Some(match did.starts_with("either ") {
            true => did,
            false => format!("either {did}"),
        })
    }

    fn function(&self, function: Function, of: &Expr, when: Option<When>) -> Option<String> {
        let period = match when {
            Some(When::In(period)) => Some((period, self.words?)),
            _ => None,
        };
        let grain = match period {
            Some((period, _)) => period.grain(),
            None => self.grain?,
        };
        let inside = Reader {
            grain: Some(grain),
            ..*self
        };
        let did = inside.did(of, None)?;
        let ends = |offsets: Offsets| {
            let (period, words) = period?;
            let [from, until] = [offsets.from(), offsets.until()].map(|by| period.shift(by.into()));
            Some((from.ok()?, until.ok()?, words))
        };
        Some(match function {
            Function::First => {
                let together = if matches!(of, Expr::And(_)) {
                    " together"
                } else {
                    ""
                };
                self.timed(&format!("{did}{together} for the first time"), when)
            }
            Function::Before => match period {
                Some((period, words)) => format!("{did} before {}", words.name(period)),
                None => format!("{did} in an earlier {grain}"),
            },
            Function::Within(offsets) => match ends(offsets) {
                Some((from, until, words)) if from == until => {
                    format!("{did} {}", words.when(from))
                }
                Some((from, until, words)) => format!(
                    "{did} {} any {grain} from {} to {}",
                    preposition(grain),
                    words.name(from),
                    words.name(until)
                ),
                None => format!("{did}{}", any_of(offsets, grain)),
            },
            Function::AtLeast(least, offsets) => {
                let of_all = match ends(offsets) {
                    Some((from, until, words)) => format!(
                        "of the {} {grain}s from {} to {}",
                        offsets.len(),
                        words.name(from),
                        words.name(until)
                    ),
                    None => format!("of {}", periods(offsets, grain)),
                };
                match least as usize == offsets.len() {
                    true => format!("{did} {} each {of_all}", preposition(grain)),
                    false => format!("{did} {} at least {least} {of_all}", preposition(grain)),
                }
            }
        })
    }

    /// Adds the time to what people did.
    fn timed(&self, did: &str, when: Option<When>) -> String {
        match (when, self.words) {
            (Some(When::In(period)), Some(words)) => format!("{did} {}", words.when(period)),
            _ => did.to_owned(),
        }
    }

    fn called(&self, name: &EventName) -> String {
        Segment::event(name).with_labels(self.labels)
    }

    /// Returns what people with an undated event are: `plan pro` for `plan:pro`.
    fn property(&self, name: &EventName) -> String {
        match self.labels.get(name) {
            Some(label) => label.to_owned(),
            None => name.as_str().replace(':', " "),
        }
    }
}

/// Whether an expression must name its period at each part: parts have times of their own, or
/// functions look at other periods.
fn depends_on_time(expr: &Expr) -> bool {
    match expr {
        Expr::Name { .. } | Expr::Names { .. } => false,
        Expr::At { .. } => true,
        Expr::Function { function, .. } => !matches!(function, Function::First),
        Expr::And(list) | Expr::Or(list) | Expr::Xor(list) => list.iter().any(depends_on_time),
        Expr::Diff(..) => true,
    }
}

/// Returns `on` for hours and days, otherwise `in`.
fn preposition(grain: Grain) -> &'static str {
    match grain {
        Grain::Day => "on",
        _ => "in",
    }
}

fn any_of(offsets: Offsets, grain: Grain) -> String {
    match (offsets.from(), offsets.until()) {
        (0, 0) => String::new(),
        (-1, -1) => format!(" in the {grain} before"),
        (1, 1) => format!(" in the {grain} after"),
        _ => format!(" in any of {}", periods(offsets, grain)),
    }
}

impl Segment {
    /// Returns what its people did, to complete "people who …", with the labels of its events:
    /// `opened the app`, `did signup`. A time can follow. Functions speak of periods of this grain.
    pub fn did(&self, labels: &Labels, grain: Grain) -> String {
        let reader = Reader {
            labels,
            grain: Some(grain),
            words: None,
        };
        let expr = parse(&self.to_string()).ok();
        let sentence = expr
            .filter(|expr| reader.is_short(expr))
            .and_then(|expr| reader.did(&expr, None));
        sentence.unwrap_or_else(|| format!("did {}", self.phrase(labels, grain)))
    }

    /// Whether every event of the segment has a phrase of what people did.
    pub fn has_phrases(&self, labels: &Labels) -> bool {
        let names = self.names();
        !names.is_empty() && names.iter().all(|name| labels.did(name).is_some())
    }

    /// Returns the segment in words, to complete "people who did …", with the labels of its events.
    /// Functions speak of periods of this grain. A segment without functions stays its text.
    ///
    /// ```
    /// use cohortist::calendar::Grain;
    /// use cohortist::sets::{Labels, Segment};
    /// let phrase = |text: &str| -> Result<String, cohortist::sets::SyntaxError> {
    ///     Ok(text.parse::<Segment>()?.phrase(&Labels::new(), Grain::WEEK))
    /// };
    /// assert_eq!(phrase("first(signup)")?, "signup for the first time");
    /// assert_eq!(phrase("first(a & b)")?, "a & b together for the first time");
    /// assert_eq!(phrase("first(a) & b")?, "a for the first time and b");
    /// assert_eq!(phrase("within(a, -4..-1) & !a")?, "a in any of the 4 weeks before but not a");
    /// assert_eq!(phrase("atleast(2, a, -3..0)")?, "a in at least 2 of this and the 3 weeks before");
    /// assert_eq!(phrase("a & (web | ios)")?, "a & (web | ios)");
    /// # Ok::<(), cohortist::sets::SyntaxError>(())
    /// ```
    pub fn phrase(&self, labels: &Labels, grain: Grain) -> String {
        if !self.has_function() {
            return self.with_labels(labels);
        }
        let phrase = |of: &Segment| of.phrase(labels, grain);
        // A part of several words that another word could tear apart.
        let part = |of: &Segment| match of {
            Segment::And(_) | Segment::Or(_) | Segment::Xor(_) | Segment::Diff(..) => {
                format!("({})", phrase(of))
            }
            _ => phrase(of),
        };
        let joined = |list: &[Segment], word: &str| {
            let parts: Vec<String> = list.iter().map(part).collect();
            parts.join(word)
        };
        match self {
            Segment::Event(_) | Segment::Ever(_) | Segment::Names(_) | Segment::NamesEver(_) => {
                self.with_labels(labels)
            }
            Segment::And(list) => joined(list, " and "),
            Segment::Or(list) => joined(list, " or "),
            Segment::Xor(list) => format!("an odd number of {}", joined(list, ", ")),
            // `a & b & !c` needs no parentheses.
            Segment::Diff(a, b) if matches!(**a, Segment::And(_)) => {
                format!("{} but not {}", phrase(a), part(b))
            }
            Segment::Diff(a, b) => format!("{} but not {}", part(a), part(b)),
            Segment::First(of) => match &**of {
                Segment::And(_) => format!("{} together for the first time", phrase(of)),
                _ => format!("{} for the first time", phrase(of)),
            },
            Segment::Before(of) => format!("{} in an earlier {grain}", part(of)),
            Segment::Within(of, offsets) if (offsets.from(), offsets.until()) == (0, 0) => {
                phrase(of)
            }
            Segment::Within(of, offsets) => format!("{}{}", part(of), any_of(*offsets, grain)),
            Segment::AtLeast(least, of, offsets) => format!(
                "{} in at least {least} of {}",
                part(of),
                periods(*offsets, grain)
            ),
        }
    }
}

/// Returns the periods of a range: `the 4 weeks before`, `this and the 3 weeks before`, `the weeks
/// from 4 before to 2 before`.
fn periods(offsets: Offsets, grain: Grain) -> String {
    let some = |count: i32| match count {
        1 => format!("the {grain}"),
        count => format!("the {count} {grain}s"),
    };
    let relative = |offset: i32| match offset {
        0 => "this one".to_owned(),
        before @ ..0 => format!("{} before", -before),
        after => format!("{after} after"),
    };
    match (offsets.from(), offsets.until()) {
        (0, 0) => format!("this {grain}"),
        (from, -1) => format!("{} before", some(-from)),
        (from @ ..0, 0) => format!("this and {} before", some(-from)),
        (1, until) => format!("{} after", some(until)),
        (0, until) => format!("this and {} after", some(until)),
        (from, until) => format!(
            "the {grain}s from {} to {}",
            relative(from),
            relative(until)
        ),
    }
}
