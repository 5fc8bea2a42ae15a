//! The answer of the lifecycle report.

use crate::calendar::{Grain, Period, Zone};
use crate::reports::coverage::State;
use crate::sets::{Offsets, Segment};
use crate::stats::rate;

/// The lifecycle of a segment, period by period.
#[derive(Debug, Clone, PartialEq)]
pub struct Growth {
    /// Whose lifecycle.
    pub segment: Segment,
    /// The length of a period.
    pub grain: Grain,
    /// The zone in which they begin and end.
    pub zone: Zone,
    /// Since when the segment is recorded: a day if there are daily bitmaps.
    pub begins: Option<Period>,
    /// When the store's data ends, if before now.
    pub data_ends: Option<Period>,
    /// Whether numbers may include marks made after a chosen *now*.
    pub may_include_later_marks: bool,
    /// The periods, oldest first.
    pub stages: Vec<Stage>,
}

/// One period of a [`Growth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// The period.
    pub period: Period,
    /// Whether its numbers are known, and can still change.
    pub state: State,
    /// The number of users in the segment. `None` if it is not recorded.
    pub active: Option<u64>,
    /// The same users by their past, and those who are missing. `None` where the past is not
    /// recorded, as in the first recorded period, in which everybody would look new.
    pub classes: Option<Classes>,
}

/// The users of a period by their past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// In no earlier period.
    pub new: u64,
    /// In the period before.
    pub returning: u64,
    /// In an earlier period, and not in the one before.
    pub resurrected: u64,
    /// In the period before, and not in this one. In a period in progress: not back yet.
    pub dormant: u64,
}

/// A group of users in a period of a lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// All users in the segment.
    Active,
    /// See [`Classes::new`].
    New,
    /// See [`Classes::returning`].
    Returning,
    /// See [`Classes::resurrected`].
    Resurrected,
    /// See [`Classes::dormant`].
    Dormant,
}

impl Class {
    /// Every class, in the order of columns.
    pub const ALL: [Class; 5] = [
        Class::Active,
        Class::New,
        Class::Returning,
        Class::Resurrected,
        Class::Dormant,
    ];

    /// The name used in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Active => "active",
            Class::New => "new",
            Class::Returning => "returning",
            Class::Resurrected => "resurrected",
            Class::Dormant => "dormant",
        }
    }
}

impl Stage {
    /// Returns the number of users of a class. `None` if it is not recorded.
    pub fn count(&self, class: Class) -> Option<u64> {
        match class {
            Class::Active => self.active,
            Class::New => self.classes.map(|classes| classes.new),
            Class::Returning => self.classes.map(|classes| classes.returning),
            Class::Resurrected => self.classes.map(|classes| classes.resurrected),
            Class::Dormant => self.classes.map(|classes| classes.dormant),
        }
    }

    /// The classes of a complete period.
    pub fn complete(&self) -> Option<Classes> {
        self.classes.filter(|_| self.state == State::Complete)
    }
}

impl Classes {
    /// Who came or came back.
    pub fn gained(&self) -> u64 {
        self.new + self.resurrected
    }

    /// The change of the number of users from the period before.
    pub fn net(&self) -> i64 {
        let signed = |count: u64| i64::try_from(count).expect("there are fewer than 2⁶³ users");
        signed(self.gained()) - signed(self.dormant)
    }
}

/// How many users a segment gained for each one it lost, over complete periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuickRatio {
    /// New and resurrected users.
    pub gained: u64,
    /// Dormant users.
    pub lost: u64,
    /// The number of periods.
    pub periods: usize,
}

impl QuickRatio {
    /// The sum of gains ÷ the sum of losses. `None` if there are no losses.
    pub fn ratio(&self) -> Option<f64> {
        rate(self.gained, self.lost)
    }
}

impl Growth {
    /// Returns the quick ratio over all complete periods.
    pub fn quick_ratio(&self) -> QuickRatio {
        let complete = self.stages.iter().filter_map(Stage::complete);
        complete.fold(QuickRatio::default(), |sum, classes| QuickRatio {
            gained: sum.gained + classes.gained(),
            lost: sum.lost + classes.dormant,
            periods: sum.periods + 1,
        })
    }

    /// Returns the text of the set of a class's users in a period.
    pub fn members(&self, class: Class, period: Period) -> String {
        let own = || self.segment.clone();
        let before = || {
            let offsets = Offsets::new(-1, -1).expect("one period back is near");
            Segment::Within(Box::new(own()), offsets)
        };
        let without = |from: Segment, not: Segment| Segment::Diff(Box::new(from), Box::new(not));
        let segment = match class {
            Class::Active => own(),
            Class::New => Segment::First(Box::new(own())),
            Class::Returning => Segment::And(vec![own(), before()]),
            Class::Resurrected => {
                let seen = Segment::Before(Box::new(own()));
                without(Segment::And(vec![own(), seen]), before())
            }
            Class::Dormant => without(before(), own()),
        };
        segment.in_period(period)
    }
}
