//! One column over time: the rate of each cohort, oldest to newest.

use plotters::prelude::{Circle, PathElement, Polygon};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use crate::calendar::Period;
use crate::render::axis::{Axis, period_labels};
use crate::render::chart::{
    Canvas, Plane, addressed, colour, coord, label, nothing_yet, opening, rules, stretches, stroke, write_at,
};
use crate::render::colour::Theme;
use crate::render::words;
use crate::reports::retention::{Averaging, Cell, Row, State, Table};

/// As wide as the page.
const TREND: Canvas = Canvas { width: 1920, height: 500, left: 104, right: 1764, top: 44, bottom: 408 };

/// The most cohorts whose intervals are drawn one by one: beyond it they touch, and a band says the same.
const MAX_WHISKERS: usize = 60;

/// One column's rate by cohort, for a page: solid where complete, pale, dashed and hollow while in progress, with gaps
/// where a cohort has no such cell, and the column's average as a rule. A `column` the table does not have is one
/// without cells.
pub fn trend(table: &Table, column: usize) -> String {
    let title = format!("Return {}, by cohort", words::column(table, column));
    let canvas = (TREND.width, TREND.height);
    let mut out = opening("trend", "chart trend", canvas, &title, &described(table, column));
    out.push_str(&trend_layers(table, column));
    out.push_str("</svg>");
    out
}

/// What the trend shows, in a few words: `each cohort's share with its 95% interval; dashed rule: weighted average`.
pub fn trend_caption(table: &Table, column: usize) -> String {
    let cells = cells(table, column);
    let average = match (table.averages.get(column), table.query.averaging) {
        (Some(Some(_)), Averaging::Weighted) => "; dashed rule: weighted average",
        (Some(Some(_)), Averaging::Simple) => "; dashed rule: simple average",
        _ => "",
    };
    let is_running = |point: &Point| point.cell.state == State::InProgress;
    let running = if cells.iter().flatten().any(is_running) { "; hollow while in progress" } else { "" };
    format!("each cohort's share with its 95% interval{average}{running}")
}

/// A cohort's cell of the column.
#[derive(Clone, Copy)]
struct Point {
    cohort: Period,
    cell: Cell,
}

impl Point {
    fn height(&self) -> f64 {
        self.cell.rate() * 100.0
    }

    fn is_complete(&self) -> bool {
        self.cell.state == State::Complete
    }
}

/// One for each cohort, oldest first; `None` where it has no such cell.
fn cells(table: &Table, column: usize) -> Vec<Option<Point>> {
    let cell = |row: &Row| row.cells.get(column).copied().flatten();
    table.rows.iter().map(|row| Some(Point { cohort: row.period, cell: cell(row)? })).collect()
}

fn described(table: &Table, column: usize) -> String {
    let points: Vec<Point> = cells(table, column).into_iter().flatten().filter(Point::is_complete).collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return format!("{} {}.", capital(nothing_yet(table)), words::column(table, column));
    };
    let said = |point: &Point| format!("{} for {}", words::percent(point.cell.rate()), point.cohort.label());
    let mut text = if points.len() > 1 {
        let by_rate = |a: &&Point, b: &&Point| a.cell.rate().total_cmp(&b.cell.rate());
        let (low, high) =
            (points.iter().min_by(by_rate).unwrap_or(first), points.iter().max_by(by_rate).unwrap_or(last));
        format!("From {} to {}; the lowest is {}, the highest {}.", said(first), said(last), said(low), said(high))
    } else {
        format!("{}.", said(last))
    };
    if let Some(Some(average)) = table.averages.get(column) {
        text.push_str(&format!(" The average is {}.", words::percent(average.rate)));
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The axis: to the end of the intervals, unless those of small cohorts would press the rates themselves to the ground.
fn axis_of(points: &[Option<Point>], average: Option<f64>) -> Axis {
    let greatest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let rates = greatest(&mut points.iter().flatten().map(|point| point.cell.rate()).chain(average));
    let ends = greatest(&mut points.iter().flatten().map(|point| point.cell.interval().1));
    // Where nobody came back the whole scale says more than the room for error alone.
    Axis::percent_fitted(if rates > 0.0 { ends.min(rates * 2.0) } else { 1.0 })
}

fn trend_layers(table: &Table, column: usize) -> String {
    let points = cells(table, column);
    let n = points.len();
    let average = table.averages.get(column).copied().flatten().map(|average| average.rate);
    let axis = axis_of(&points, average);
    let reach = (coord(n.max(1)), axis.top);
    let theme = Theme::Light;
    let (accent, mute) = (theme.accent(), theme.mute());
    let at = |x: f64, point: &Point| (x + 0.5, point.height());
    let mut out = rules(&TREND, &axis, reach.0, |tick| format!("{tick:.0$}%", axis.decimals));

    out.push_str(&TREND.layer("ticks", "", reach, |plane| {
        let style = label(20, mute, HPos::Center, VPos::Top);
        let periods: Vec<Period> = table.rows.iter().map(|row| row.period).collect();
        for (i, words) in period_labels(&periods, false) {
            write_at(plane, (coord(i) + 0.5, 0.0), (0, 14), words, &style)?;
        }
        let cohort = words::shortened(&table.query.cohort.to_string(), 48);
        write_at(plane, (reach.0 / 2.0, 0.0), (0, 54), format!("{} of {cohort}", table.query.grain), &style)
    }));

    let all = stretches(points.iter().copied());
    // Off the top rather than over what stands there.
    let ends = |point: &Point| {
        let (low, high) = point.cell.interval();
        (low * 100.0, (high * 100.0).min(axis.top))
    };
    if n > MAX_WHISKERS {
        out.push_str(&TREND.layer("band", "", reach, |plane| {
            all.iter().filter(|stretch| stretch.len() > 1).try_for_each(|stretch| {
                let low = stretch.iter().map(|(x, point)| (x + 0.5, ends(point).0));
                let high = stretch.iter().rev().map(|(x, point)| (x + 0.5, ends(point).1));
                plane.draw(&Polygon::new(low.chain(high).collect::<Vec<_>>(), colour(accent).mix(0.18)))
            })
        }));
    }
    for (class, complete, opacity) in [("whiskers", true, 0.55), ("whiskers running", false, 0.3)] {
        out.push_str(&TREND.layer(class, "", reach, |plane| {
            let alone = all.iter().filter(|stretch| n <= MAX_WHISKERS || stretch.len() == 1).flatten();
            alone.filter(|(_, point)| point.is_complete() == complete).try_for_each(|(x, point)| {
                let (low, high) = ends(point);
                plane.draw(&PathElement::new(vec![(x + 0.5, low), (x + 0.5, high)], stroke(accent, opacity, 3)))
            })
        }));
    }
    if let Some(rate) = average {
        out.push_str(&TREND.layer("mean", " stroke-dasharray=\"10 8\"", reach, |plane| {
            plane.draw(&PathElement::new(vec![(0.0, rate * 100.0), (reach.0, rate * 100.0)], stroke(mute, 1.0, 2)))
        }));
        out.push_str(&TREND.layer("ticks", "", reach, |plane| {
            let style = label(22, mute, HPos::Left, VPos::Center);
            write_at(plane, (reach.0, rate * 100.0), (14, 0), format!("⌀ {}", words::percent(rate)), &style)
        }));
    }

    // Solid between complete cells, dashed to and between those in progress.
    for (class, attributes, complete, opacity) in [
        ("average running", " stroke-dasharray=\"6 7\"", false, 0.5),
        ("average", " stroke-linejoin=\"round\" stroke-linecap=\"round\"", true, 1.0),
    ] {
        out.push_str(&TREND.layer(class, attributes, reach, |plane| {
            all.iter().flat_map(|stretch| runs(stretch, complete)).try_for_each(|run| {
                let line: Vec<(f64, f64)> = run.iter().map(|(x, point)| at(*x, point)).collect();
                plane.draw(&PathElement::new(line, stroke(accent, opacity, 4)))
            })
        }));
    }
    let (radius, width) = if n <= MAX_WHISKERS { (6, 4) } else { (3, 2) };
    for (class, complete, opacity) in [("dots full", true, 1.0), ("dots running", false, 0.5)] {
        let of_class = |point: &&Point| point.is_complete() == complete;
        let group = TREND.layer(class, "", reach, |plane| {
            all.iter().flatten().filter(|(_, point)| point.is_complete() == complete).try_for_each(|(x, point)| {
                plane.draw(&Circle::new(at(*x, point), radius, stroke(accent, opacity, width)))
            })
        });
        // Whole or hollow, and opaque: the lines end at a dot.
        let fill = if complete { accent.to_string() } else { "#ffffff".to_owned() };
        let group = group.replace("fill=\"none\"", &format!("fill=\"{fill}\""));
        let group = group.replace(" fill-opacity=", " stroke-opacity=");
        let drawn = points.iter().flatten().filter(of_class).map(|point| point.cohort);
        out.push_str(&addressed(&group, "circle", drawn));
    }
    out.push_str(&newest(&points, reach));
    if !points.iter().flatten().any(Point::is_complete) {
        out.push_str(&TREND.layer("ticks", "", reach, |plane| {
            let style = label(24, mute, HPos::Center, VPos::Center);
            write_at(plane, (reach.0 / 2.0, reach.1 * 0.875), (0, 0), nothing_yet(table).to_owned(), &style)
        }));
    }
    out
}

/// The parts of an unbroken stretch of at least two points whose lines are those of complete cells, or the others.
fn runs(stretch: &[(f64, Point)], complete: bool) -> Vec<Vec<(f64, Point)>> {
    let mut runs: Vec<Vec<(f64, Point)>> = Vec::new();
    let mut open = false;
    for pair in stretch.windows(2) {
        let wanted = pair.iter().all(|(_, point)| point.is_complete()) == complete;
        match runs.last_mut() {
            Some(run) if wanted && open => run.extend_from_slice(&pair[1..]),
            _ if wanted => runs.push(pair.to_vec()),
            _ => {}
        }
        open = wanted;
    }
    runs
}

/// The number of the newest complete cohort, above its point.
fn newest(points: &[Option<Point>], reach: (f64, f64)) -> String {
    let Some((i, point)) = points.iter().enumerate().rev().find_map(|(i, p)| Some((i, p.filter(Point::is_complete)?)))
    else {
        return String::new();
    };
    let halo =
        " font-weight=\"700\" paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"6\" stroke-linejoin=\"round\"";
    TREND.layer("labels", halo, reach, |plane: &Plane<'_>| {
        let style = label(24, Theme::Light.accent(), HPos::Center, VPos::Bottom);
        let high = (point.cell.interval().1 * 100.0).min(reach.1);
        write_at(plane, (coord(i) + 0.5, high), (0, -8), words::percent(point.cell.rate()), &style)
    })
}
