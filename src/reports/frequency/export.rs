//! The frequency report as a table, for every format.

use serde_json::{Value as Json, json};

use crate::calendar::{Calendar, Grain, Period};
use crate::reports::export::{Chart, Exports};
use crate::reports::frame::{Frame, People, Value};
use crate::reports::frequency::habits::{Curve, Habits};
use crate::sets::Segment;

/// The start of a window, and its exclusive end.
fn bounds(curve: &Curve) -> [String; 2] {
    let [start, _] = curve.from.iso_bounds();
    let [_, end] = curve.until.iso_bounds();
    [start, end]
}

fn people(curve: &Curve, count: Option<u64>, set: impl FnOnce() -> String) -> Value {
    let people = |count| People {
        count,
        state: curve.state,
        set: Some(set()),
    };
    count.map(people).into()
}

fn json_of(curve: &Curve) -> Json {
    let [start, end] = bounds(curve);
    json!({
        "window_start": start,
        "window_end": end,
        "state": curve.state.as_str(),
        "people": curve.people(1),
        "person_days": curve.total(),
        "mean_days": curve.mean(),
        "exactly": curve.exactly,
        "at_least": curve.exactly.as_ref().map(|_| curve.at_least()),
    })
}

impl Habits {
    /// The word for the periods of the window: `days` or `weeks`.
    pub fn unit(&self) -> &'static str {
        if self.window.grain() != Grain::Day {
            "weeks"
        } else {
            "days"
        }
    }

    /// Returns each number of periods, with the number of users in exactly and in at least so many.
    fn rows(&self) -> impl Iterator<Item = (u32, Option<u64>, Option<u64>)> {
        let at_least = self.curve.at_least();
        (1..=self.window.length()).zip(0..).map(move |(k, at)| {
            let exactly = self.curve.exactly.as_ref();
            (
                k,
                exactly.map(|exactly| exactly[at]),
                at_least.get(at).copied(),
            )
        })
    }
}

impl Exports for Habits {
    fn title(&self) -> String {
        format!(
            "{}: on how many of {} {}",
            self.segment,
            self.window.length(),
            self.unit()
        )
    }

    /// `frequency_active_28d_2026-11-19`, the date being that of the last period.
    fn name(&self) -> Vec<String> {
        vec![
            "frequency".to_owned(),
            self.segment.to_string(),
            self.window.to_string(),
            self.curve.until.to_string(),
        ]
    }

    fn calendar(&self) -> Calendar {
        Calendar {
            zone: self.curve.until.zone(),
            week: self.week,
        }
    }

    fn wide(&self) -> Frame {
        let mut frame = Frame::new([self.unit(), "exactly", "at_least", "share", "state"]);
        for (k, exactly, at_least) in self.rows() {
            let least = usize::try_from(k).expect("a window has at most 366 periods");
            frame.push(vec![
                Value::Word(k.to_string()),
                people(&self.curve, exactly, || self.members_of_exactly(k)),
                people(&self.curve, at_least, || self.members_of_at_least(k)),
                self.curve.share(least).map(Value::Share).into(),
                Value::word(self.curve.state.as_str()),
            ]);
        }
        frame
    }

    /// Returns a row for each number of periods, zeros included.
    fn tidy(&self) -> Frame {
        let mut frame = Frame::new([
            "window_start",
            "window_end",
            "state",
            "days",
            "exactly",
            "at_least",
        ]);
        let [start, end] = bounds(&self.curve);
        for (k, exactly, at_least) in self.rows() {
            frame.push(vec![
                Value::Word(start.clone()),
                Value::Word(end.clone()),
                Value::word(self.curve.state.as_str()),
                u64::from(k).into(),
                exactly.into(),
                at_least.into(),
            ]);
        }
        frame
    }

    fn json(&self) -> String {
        let mut object = json!({
            "title": self.title(),
            "event": self.segment.to_string(),
            "window": self.window.to_string(),
            "first_recorded": self.begins.map(|period: Period| period.to_string()),
            "zone": self.calendar().zone.name(),
            "week": self.calendar().week.as_str(),
            "data_ends": self.data_ends.map(|period: Period| period.to_string()),
            "may_include_later_marks": self.may_include_later_marks,
            "rows": self.tidy().to_json(),
            "weeks": self.weeks.iter().map(json_of).collect::<Vec<_>>(),
        });
        if let (Json::Object(object), Json::Object(curve)) = (&mut object, json_of(&self.curve)) {
            object.extend(curve);
        }
        format!("{object:#}")
    }

    fn is_by_period(&self) -> bool {
        false
    }

    fn may_include_later_marks(&self) -> bool {
        self.may_include_later_marks
    }

    fn chart(&self) -> Option<Chart<'_>> {
        Some(Chart::Frequency(self))
    }

    fn segments(&self) -> Vec<&Segment> {
        vec![&self.segment]
    }

    fn is_empty(&self) -> bool {
        self.curve.people(1).unwrap_or(0) == 0
    }
}
