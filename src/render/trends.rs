//! Trends as figures, notes and a chart of lines.

use crate::render::axis::{Axis, period_labels, periods_of};
use crate::render::chart::{CURVE, Canvas, Hit, SIZES, SNUG, WHOLE, short_count, titled};
use crate::render::comparison::{Look, looks, moved_apart};
use crate::render::drawing::{Drawing, Figure};
use crate::render::plot::{Label, Plot, height};
use crate::render::{groups, thousands, words};
use crate::reports::Exports;
use crate::reports::comparison::Basis;
use crate::reports::coverage::State;
use crate::reports::spans::compared;
use crate::reports::trends::{Breakdown, Lines, Point, Series};
use crate::sets::Segment;

/// The longest name at the end of a line, in characters.
const NAMED: usize = 18;

/// Returns a figure for each segment, of its last complete period.
pub fn figures(lines: &Lines) -> Vec<Figure> {
    let figure = |series: &Series| {
        let name = words::shortened(&series.kind.name(), 60);
        let Some(point) = series.last_complete() else {
            return Figure {
                value: None,
                label: name,
                note: words::none_complete(what(lines), lines.data_ends),
            };
        };
        let mut notes = vec![until(lines, point)];
        notes.extend(change(lines, series, point));
        let sticky = point.stickiness.map(words::percent);
        notes.extend(sticky.map(|share| format!("stickiness {share}")));
        Figure {
            value: point.people.map(thousands),
            label: name,
            note: notes.join("; "),
        }
    };
    lines.series.iter().map(figure).collect()
}

/// The segment of the question that a series counts or divides.
fn asked<'a>(lines: &'a Lines, series: &'a Series) -> Option<&'a Segment> {
    let divided = lines.breakdown.as_ref().map(|breakdown| &breakdown.segment);
    divided.or(series.segment.as_ref())
}

fn what(lines: &Lines) -> &'static str {
    match lines.rolling {
        None => lines.grain.as_str(),
        Some(_) => "window",
    }
}

/// When the people of a point were active.
fn until(lines: &Lines, point: &Point) -> String {
    match lines.rolling {
        None => words::when(point.period),
        Some(rolling) => format!(
            "in the {} days up to {}",
            rolling.days(),
            words::full_label(point.period)
        ),
    }
}

/// The change from a comparable earlier period, if both are complete: a window is compared with the
/// one just before it, without common days.
fn change(lines: &Lines, series: &Series, point: &Point) -> Option<String> {
    let (back, before) = match lines.rolling {
        None if compared(lines.grain) == 7 => (7, "a week before".to_owned()),
        None => (1, format!("the {} before", lines.grain)),
        Some(rolling) => (rolling.days(), format!("{} days before", rolling.days())),
    };
    let earlier = point.period.shift(-i64::from(back)).ok()?;
    let mut points = series.points.iter();
    let earlier = points.find(|point| point.period == earlier && point.state == State::Complete)?;
    let ratio = crate::stats::rate(point.people?, earlier.people?)?;
    Some(format!("{} on {before}", words::change(ratio - 1.0)))
}

/// Returns what a reader of the table has to know.
pub fn notes(lines: &Lines) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(rolling) = lines.rolling {
        notes.push(format!(
            "Each row counts the people who were active on any of the {} days up to that day, each of them once.",
            rolling.days()
        ));
    }
    if lines.rolling == Some(crate::reports::trends::Rolling::FourWeeks) {
        notes.push(
            "Stickiness is the mean number of people a day ÷ the people of the same 28 days."
                .to_owned(),
        );
    }
    let joined = lines
        .series
        .iter()
        .filter(|series| series.is_on_the_same_day);
    let mut joined: Vec<String> = joined
        .filter_map(|series| {
            let name = words::shortened(&asked(lines, series)?.to_string(), 60);
            Some(format!(
                "{name} means on the same day: each person meets all of it on one of the days."
            ))
        })
        .collect();
    joined.dedup();
    notes.extend(joined);
    if let Some(breakdown) = &lines.breakdown {
        notes.extend(groups_of(lines, breakdown));
    }
    let points = || lines.series.iter().flat_map(|series| &series.points);
    let has = |state| points().any(|point| point.state == state);
    if has(State::InProgress) {
        notes.push(format!("* {}.", words::in_progress(lines.data_ends)));
    }
    if has(State::PartlyRecorded) {
        let begins = lines
            .series
            .iter()
            .filter_map(|series| Some(words::recorded_from(asked(lines, series)?, series.begins?)));
        let mut begins: Vec<String> = begins.collect();
        // Groups begin with the segment that they divide.
        begins.dedup();
        let begins = begins.join(", ");
        notes.push(format!(
            "≥ at least: a part of the {} is not recorded. {begins}",
            what(lines)
        ));
    }
    if has(State::NotRecorded) {
        notes.push("– not recorded.".to_owned());
    }
    notes
}

/// Returns what a reader of the groups has to know.
fn groups_of(lines: &Lines, breakdown: &Breakdown) -> Vec<String> {
    let mut notes = vec![match breakdown.basis {
        Basis::KnownToday => format!("{}.", groups::KNOWN_TODAY),
        _ => format!("Grouped by what was known in each {}.", lines.grain),
    }];
    notes.extend(groups::overlap(
        breakdown.people_of_groups,
        breakdown.people,
    ));
    let kinds = lines.series.iter().map(|series| &series.kind);
    notes.extend(groups::values(
        kinds,
        breakdown.empty_values,
        "these periods",
    ));
    notes
}

/// Draws the lines for a page.
pub fn drawings(lines: &Lines) -> Vec<Drawing> {
    let detail = match lines.rolling {
        None => format!("by {}", lines.grain),
        Some(rolling) => format!("of the {} days up to each day", rolling.days()),
    };
    let pale = words::while_in_progress(lines.data_ends);
    let drawn = looks_of(lines).iter().flatten().count();
    let some = if drawn < lines.series.len() {
        format!("; {drawn} of {} groups", lines.series.len())
    } else {
        String::new()
    };
    vec![Drawing {
        caption: "People".to_owned(),
        detail: format!("{detail}; pale {pale}, and where not recorded whole{some}"),
        svg: draw(lines, &WHOLE, "trends", "chart whole roomy"),
        small: draw(lines, &SNUG, "trends-small", "chart sizes snug"),
        is_wide: false,
    }]
}

/// Draws the lines as a standalone file.
pub fn file(lines: &Lines) -> String {
    let svg = draw(lines, &CURVE, "trends", "chart");
    let ends = lines.periods().next().zip(lines.periods().last());
    let facts: Vec<String> = ends
        .map(|(first, last)| words::from_to(first, last))
        .into_iter()
        .chain([lines.calendar().words()])
        .chain(lines.data_ends.map(words::ends))
        .collect();
    titled(&svg, &lines.title(), &[facts.join(" · ")])
}

fn looks_of(lines: &Lines) -> Vec<Option<Look>> {
    looks(lines.series.iter().map(|series| &series.kind))
}

fn draw(lines: &Lines, canvas: &Canvas, id: &str, class: &str) -> String {
    let is_single = lines.series.len() == 1;
    // Names need room at the ends of the lines.
    let canvas = Canvas {
        right: if is_single {
            canvas.right
        } else {
            canvas.right - 220
        },
        ..*canvas
    };
    // A period in progress does not stretch the axis.
    let people = |is_final: bool| {
        let points = lines.series.iter().flat_map(|series| &series.points);
        let points = points.filter(|point| !is_final || point.state != State::InProgress);
        points.filter_map(|point| point.people).max()
    };
    let greatest = people(true).filter(|count| *count > 0).or(people(false));
    let axis = Axis::count(height(greatest.unwrap_or(0)));
    let periods: Vec<_> = lines.periods().collect();
    let mut plot = Plot::new(&canvas, (0.0, axis.top), periods.len());
    plot.rules(&axis.ticks, |tick| short_count(tick, axis.top));
    let drawn: Vec<(&Series, Look)> = lines
        .series
        .iter()
        .zip(looks_of(lines))
        .filter_map(|(series, look)| Some((series, look?)))
        .collect();
    if !is_single {
        plot.keys = looks_of(lines)
            .iter()
            .map(|look| look.map_or("", |look| look.class))
            .collect();
    }
    for (series, look) in &drawn {
        line(&mut plot, series, *look);
    }
    if !is_single {
        let drawn = drawn.iter().map(|(series, _)| *series);
        let labels = names(&plot, lines, drawn, f64::from(canvas.right) + 10.0);
        plot.texts("labels numbers", labels);
    }
    let few = canvas.width <= SIZES.width;
    plot.below(
        &period_labels(&periods, few),
        &periods_of(lines.grain, lines.zone),
    );
    plot.hits(periods.iter().enumerate().map(|(at, period)| Hit {
        at: period.to_string(),
        text: describe(lines, at),
    }));
    let last = lines.series.iter().filter_map(|series| {
        let point = series.last_complete()?;
        Some(format!(
            "{}: {} {}",
            series.kind.name(),
            words::people(point.people?),
            until(lines, point)
        ))
    });
    let text = last.collect::<Vec<_>>().join("; ");
    let text = if text.is_empty() {
        "Nothing is complete.".to_owned()
    } else {
        text
    };
    plot.finish(id, class, "People", &text)
}

/// Draws complete periods as a line, and the way to and between others pale.
fn line(plot: &mut Plot<'_>, series: &Series, look: Look) {
    let points = &series.points;
    let value = |point: &Point| point.people.map(height);
    let is_final =
        |point: Option<&Point>| point.is_some_and(|point| point.state == State::Complete);
    let attributes = look.attributes();
    let complete: Vec<Option<f64>> = points
        .iter()
        .map(|point| value(point).filter(|_| is_final(Some(point))))
        .collect();
    let other: Vec<Option<f64>> = points
        .iter()
        .enumerate()
        .map(|(at, point)| {
            let before = at.checked_sub(1).and_then(|before| points.get(before));
            let is_inner = is_final(Some(point))
                && before.is_none_or(|before| is_final(Some(before)))
                && points.get(at + 1).is_none_or(|next| is_final(Some(next)));
            value(point).filter(|_| !is_inner)
        })
        .collect();
    plot.line(
        &format!("line {} pale", look.class),
        &format!(r#"{attributes} stroke-opacity="0.4""#),
        &other,
    );
    plot.line(&format!("line {}", look.class), &attributes, &complete);
}

/// The names at the ends of the lines, moved apart.
fn names<'a>(
    plot: &Plot<'_>,
    lines: &Lines,
    drawn: impl Iterator<Item = &'a Series>,
    x: f64,
) -> Vec<Label> {
    let mut labels: Vec<Label> = drawn
        .map(|series| {
            let last = series.points.iter().rev().find_map(|point| point.people);
            let name = series.kind.name();
            let name = match &lines.breakdown {
                Some(breakdown) => groups::short_value(&breakdown.values, name),
                None => name,
            };
            Label {
                x,
                y: plot.y(height(last.unwrap_or(0))) + 8.0,
                anchor: "start",
                text: words::shortened(&name, NAMED),
            }
        })
        .collect();
    moved_apart(&mut labels);
    labels
}

fn describe(lines: &Lines, at: usize) -> String {
    let mut texts = Vec::new();
    let mut label = String::new();
    for series in &lines.series {
        let point = &series.points[at];
        label = words::full_label(point.period);
        let people = match (point.people, point.state) {
            (None, _) => "not recorded".to_owned(),
            (Some(count), State::PartlyRecorded) => format!("at least {}", words::people(count)),
            (Some(count), State::InProgress) => {
                format!(
                    "{} · {}",
                    words::people(count),
                    words::in_progress(lines.data_ends)
                )
            }
            (Some(count), _) => words::people(count),
        };
        texts.push(match lines.series.len() {
            1 => format!(" · {people}"),
            _ => format!("\n{} · {people}", series.kind.name()),
        });
    }
    format!("{label}{}", texts.concat())
}
