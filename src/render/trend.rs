//! Draws an [`Activity`] as a bar chart, and the sparkline next to an event's name. SVG, with
//! classes for themes as in [`chart`](crate::render::chart).

use std::fmt::Write as _;

use crate::calendar::{Grain, Zone};
use crate::render::axis::{Axis, period_labels, periods_of};
use crate::render::chart::{
    Bar, CURVE, Canvas, Columns, DataTable, Hit, SIZES, SNUG, bar_layers, escaped, greatest, hits,
    opening, short_count,
};
use crate::render::plot::height;
use crate::render::{thousands, words};
use crate::reports::retention::State;
use crate::reports::trend::{Activity, Point};

/// Draws the number of people in each period, from the first recorded one.
pub fn people(activity: &Activity) -> String {
    people_on(activity, &CURVE, ("people", "chart curve roomy"))
}

/// Draws [`people`] for half a page or a narrow page.
pub fn people_small(activity: &Activity) -> String {
    people_on(activity, &SNUG, ("people-small", "chart sizes snug"))
}

fn people_on(activity: &Activity, canvas: &Canvas, (id, class): (&str, &str)) -> String {
    let height = |point: &Point| Some(height(point.people));
    let desc = match activity.greatest() {
        Some(point) => format!(
            "The most were {} {}.",
            words::people(point.people),
            words::when(point.period)
        ),
        None => "Nobody in any period.".to_owned(),
    };
    let axis = Axis::count(greatest(&bars(activity.recorded(), height)));
    let chart = Chart {
        id,
        class,
        title: "People",
        desc,
        canvas,
        axis,
    };
    let describe = |point: &Point| match point.state {
        State::NotRecorded => "not recorded".to_owned(),
        _ => words::people(point.people),
    };
    chart.draw(
        activity.grain,
        activity.recorded(),
        height,
        describe,
        short_count,
    )
}

/// Draws the stickiness of each week or month, from the first one that has it: mean people per day
/// ÷ people in the period.
pub fn stickiness(activity: &Activity) -> String {
    let last = activity
        .points
        .iter()
        .rev()
        .filter(|p| p.state == State::Complete)
        .find_map(|p| {
            let rate = p.stickiness()?;
            Some(format!(
                "It was {} {}.",
                words::percent(rate),
                words::when(p.period)
            ))
        });
    let none = format!("No period is complete{}.", words::yet(activity.data_ends));
    let desc = last.unwrap_or(none);
    let height = |point: &Point| point.stickiness().map(|rate| rate * 100.0);
    let axis = Axis::percent(greatest(&bars(sticky_points(activity), height)) / 100.0);
    let decimals = axis.decimals;
    let chart = Chart {
        id: "sticky",
        class: "chart sizes",
        title: "Stickiness",
        desc,
        canvas: &SIZES,
        axis,
    };
    let describe = |point: &Point| match point.stickiness() {
        Some(rate) => words::percent(rate),
        None if point.state == State::NotRecorded => "not recorded".to_owned(),
        None => "no people".to_owned(),
    };
    chart.draw(
        activity.grain,
        sticky_points(activity),
        height,
        describe,
        |tick, _| format!("{tick:.decimals$}%"),
    )
}

/// Returns the points from the first one with stickiness, at least the last point.
fn sticky_points(activity: &Activity) -> &[Point] {
    let points = activity.recorded();
    let first = points
        .iter()
        .position(|p| p.stickiness().is_some())
        .unwrap_or(points.len().saturating_sub(1));
    points.get(first..).unwrap_or_default()
}

/// Returns the numbers of [`stickiness`], newest first. A daily page shows them nowhere else.
pub fn stickiness_data_table(activity: &Activity) -> DataTable {
    let rows = sticky_points(activity).iter().rev().map(|point| {
        let state = match point.state {
            State::Complete => "complete",
            State::NotRecorded => "not recorded",
            _ if activity.data_ends.is_some() => "data ends in it",
            _ => "in progress",
        };
        let sticky = point
            .stickiness()
            .map_or_else(|| "none".to_owned(), words::percent);
        let none = if point.state == State::InProgress {
            words::none_complete("day", activity.data_ends)
        } else {
            "not recorded whole".to_owned()
        };
        let mean = point.daily.map_or(none, words::mean);
        let people = if point.state == State::NotRecorded {
            "none".to_owned()
        } else {
            thousands(point.people)
        };
        vec![point.period.label(), mean, people, sticky, state.to_owned()]
    });
    DataTable {
        caption: format!(
            "Stickiness by {}: mean people a day ÷ people in the {}",
            activity.grain, activity.grain
        ),
        heads: vec![
            "Period",
            "Mean people a day",
            "People",
            "Stickiness",
            "State",
        ],
        rows: rows.collect(),
    }
}

fn bars(points: &[Point], height: impl Fn(&Point) -> Option<f64>) -> Vec<Bar> {
    let bar = |point: &Point| Bar {
        period: point.period,
        state: point.state,
        height: height(point).unwrap_or(0.0),
    };
    points.iter().map(bar).collect()
}

struct Chart<'a> {
    id: &'a str,
    class: &'a str,
    title: &'a str,
    desc: String,
    canvas: &'a Canvas,
    axis: Axis,
}

impl Chart<'_> {
    fn draw(
        &self,
        grain: Grain,
        points: &[Point],
        height: impl Fn(&Point) -> Option<f64>,
        describe: impl Fn(&Point) -> String,
        tick: impl Fn(f64, f64) -> String,
    ) -> String {
        let bars = bars(points, height);
        let few = self.canvas.width <= SIZES.width;
        let labelled = period_labels(
            &points.iter().map(|point| point.period).collect::<Vec<_>>(),
            few,
        );
        let canvas = self.canvas;
        let top = self.axis.top;
        let mut out = opening(
            self.id,
            self.class,
            (canvas.width, canvas.height),
            self.title,
            &self.desc,
        );
        out.push_str(&bar_layers(
            canvas,
            &self.axis,
            &bars,
            |t| tick(t, top),
            &labelled,
            &periods_of(
                grain,
                points.last().map_or(Zone::UTC, |point| point.period.zone()),
            ),
        ));
        let hit = |point: &Point| {
            let so_far = match point.state {
                State::InProgress => " · so far",
                _ => "",
            };
            Hit {
                at: point.period.to_string(),
                text: format!("{} · {}{so_far}", point.period.label(), describe(point)),
            }
        };
        out.push_str(&hits(canvas, Columns::Bars, &[], points.iter().map(hit)));
        out.push_str("</svg>");
        out
    }
}

/// The height of the bars of a sparkline, in their own units.
const SPARK_HEIGHT: u64 = 24;

/// Draws a sparkline: one bar per day relative to the largest, 4 units wide. Unrecorded days have
/// no bar. The last bar is pale because its day, named by `last`, is in progress.
pub fn spark(days: &[Option<u64>], last: &str) -> String {
    let greatest = days.iter().flatten().copied().max().unwrap_or(0).max(1);
    let mut paths = [String::new(), String::new()];
    for (i, people) in days.iter().enumerate() {
        if let Some(people) = people.filter(|people| *people > 0) {
            // Cannot overflow: the number of users is far below `u64::MAX / 24`.
            let height = (people * SPARK_HEIGHT).div_ceil(greatest);
            let path = &mut paths[usize::from(i + 1 == days.len())];
            let _ = write!(path, "M{} {SPARK_HEIGHT}v-{height}", i * 4 + 2);
        }
    }
    let [past, running] = paths.map(|path| {
        if path.is_empty() {
            "M0 0".to_owned()
        } else {
            path
        }
    });
    let (low, high) = match days.split_last() {
        Some((_, past)) => {
            let known = || past.iter().flatten().copied();
            (known().min().unwrap_or(0), known().max().unwrap_or(0))
        }
        None => (0, 0),
    };
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {} {SPARK_HEIGHT}\" role=\"img\" aria-label=\"{} to {} a day before {}\">\
         <path d=\"{past}\"/><path class=\"running\" d=\"{running}\"/></svg>",
        days.len() * 4,
        crate::render::thousands(low),
        words::people(high),
        escaped(last),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{Period, parse_moment};
    use crate::reports::spans::Span;
    use crate::reports::trend::Daily;

    fn activity(grain: Grain, n: u32) -> Activity {
        let now = parse_moment("2026-11-23T14:05:00Z").unwrap();
        let current = Period::containing(grain, now).unwrap();
        let first = current.shift(1 - i64::from(n)).unwrap();
        let points = first.range(n).enumerate().map(|(i, period)| {
            let people = u64::try_from(i * 13 % 90).unwrap();
            let state = if period < current {
                State::Complete
            } else {
                State::InProgress
            };
            let daily = Some(Daily { mean: 0.2, days: 7 });
            Point {
                period,
                state,
                people,
                change: None,
                daily,
            }
        });
        let span = Some(Span {
            first,
            last: current,
        });
        let segment = "\"<b>\"".parse().unwrap();
        Activity {
            segment,
            grain,
            now,
            data_ends: None,
            may_include_later_marks: false,
            span,
            points: points.collect(),
        }
    }

    #[test]
    fn sparks_are_small_and_today_is_pale() {
        let days = [Some(0), Some(1), Some(1_000), Some(500)];
        insta::assert_snapshot!(spark(&days, "today"), @r#"<svg class="spark" viewBox="0 0 16 24" role="img" aria-label="0 to 1,000 people a day before today"><path d="M6 24v-1M10 24v-24"/><path class="running" d="M14 24v-12"/></svg>"#);
        assert!(
            !spark(&[], "today").contains("NaN")
                && spark(&[Some(0); 2], "today").contains("0 to 0 people")
        );
    }

    #[test]
    fn charts_begin_where_records_begin() {
        let mut activity = activity(Grain::Month, 12);
        activity.span = Some(Span {
            first: "2026-09-14".parse().unwrap(),
            last: activity.now.date_naive().to_string().parse().unwrap(),
        });
        activity.points[9].daily = None;
        let columns = |svg: &str| {
            svg.split("<g class=\"hits\"")
                .nth(1)
                .unwrap()
                .matches("<rect")
                .count()
        };
        assert_eq!(
            [
                people(&activity),
                people_small(&activity),
                stickiness(&activity)
            ]
            .map(|svg| columns(&svg)),
            [3, 3, 2]
        );
        assert!(
            people(&activity).contains(">Sep 2026</text>") && !people(&activity).contains("Aug")
        );
        activity
            .points
            .iter_mut()
            .for_each(|point| point.daily = None);
        assert_eq!(columns(&stickiness(&activity)), 1);
    }

    #[test]
    fn any_activity_makes_charts() {
        for grain in [
            Grain::Hour,
            Grain::Day,
            Grain::WEEK,
            Grain::Month,
            Grain::Year,
        ] {
            for n in [1, 4, 12, 26, 30, 90, 400] {
                let activity = activity(grain, n);
                for svg in [
                    people(&activity),
                    people_small(&activity),
                    stickiness(&activity),
                ] {
                    assert!(
                        !svg.contains("NaN") && !svg.contains("style=") && !svg.contains("<b>"),
                        "{svg}"
                    );
                    assert!(
                        svg.contains("bars running") || activity.points.last().unwrap().people == 0,
                        "{svg}"
                    );
                    assert_eq!(svg.matches("<rect ").count() > 400, n == 400);
                }
            }
        }
        assert!(people(&activity(Grain::Day, 90)).len() < 25_000);
    }
}
