//! Segments in words.

use crate::calendar::Grain;
use crate::sets::{Labels, Offsets, Segment};

impl Segment {
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
            Segment::Within(of, offsets) => match (offsets.from(), offsets.until()) {
                (0, 0) => phrase(of),
                (-1, -1) => format!("{} in the {grain} before", part(of)),
                (1, 1) => format!("{} in the {grain} after", part(of)),
                _ => format!("{} in any of {}", part(of), periods(*offsets, grain)),
            },
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
