//! Draws the trend of a column: the rate of each cohort, oldest to newest.

use plotters::prelude::{Circle, PathElement, Polygon};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use crate::calendar::Period;
use crate::render::axis::{Axis, period_labels};
use crate::render::chart::label_layout::{Frame, Spot, Taken};
use crate::render::chart::{
    Canvas, Columns, Hit, Plane, addressed, colour, coord, hits, label, named, nothing_yet,
    opening, rules, stretches, stroke, write_at,
};
use crate::render::colour::Theme;
use crate::render::{thousands, words};
use crate::reports::retention::{FEWEST_PEOPLE, Number, Row, State, Table};

/// Full page width, with room for the average's label on the right.
const WIDE: Form = Form {
    canvas: Canvas {
        width: 1920,
        height: 500,
        left: 104,
        right: 1692,
        top: 44,
        bottom: 408,
    },
    id: "trend",
    class: "chart trend roomy",
    // With more the whiskers touch, and a band shows the same.
    most_whiskers: 60,
    label: 26.0,
    is_narrow: false,
};

/// For a page as narrow as a phone.
const NARROW: Form = Form {
    canvas: Canvas {
        width: 696,
        height: 480,
        left: 92,
        right: 580,
        top: 40,
        bottom: 388,
    },
    id: "trend-small",
    class: "chart trend snug",
    most_whiskers: 24,
    label: 26.0,
    is_narrow: true,
};

/// The layout of a trend for one page width.
struct Form {
    canvas: Canvas,
    id: &'static str,
    class: &'static str,
    /// The maximum number of cohorts with single whiskers.
    most_whiskers: usize,
    /// The maximum font size of the label of the point.
    label: f64,
    is_narrow: bool,
}

/// Draws one column's rate by cohort, for a page: a line through complete cohorts, a hollow dot for
/// one in progress, gaps where a cohort has no such cell, and a rule for the column's average. A
/// `column` outside the table has no cells.
pub fn trend(table: &Table, column: usize) -> String {
    WIDE.draw(table, column)
}

/// Draws the trend for a narrow page.
pub fn trend_small(table: &Table, column: usize) -> String {
    NARROW.draw(table, column)
}

/// Returns a short caption of the trend: `each cohort's share with its 95% interval; dashed rule:
/// weighted average`.
pub fn trend_caption(table: &Table, column: usize) -> String {
    let cells = cells(table, column);
    let average = match table.averages.get(column) {
        Some(Some(_)) => format!("; dashed rule: {}", table.query.averaging.words()),
        _ => String::new(),
    };
    let is_running = |point: &Point| point.cell.state == State::InProgress;
    let running = if cells.iter().flatten().any(is_running) {
        format!("; hollow {}", words::while_in_progress(table.data_ends))
    } else {
        String::new()
    };
    format!("each cohort's share with its 95% interval{average}{running}")
}

/// A cohort's cell of the column.
#[derive(Clone, Copy)]
struct Point {
    cohort: Period,
    cell: Number,
}

impl Point {
    fn height(&self) -> f64 {
        self.cell.rate() * 100.0
    }

    fn is_complete(&self) -> bool {
        self.cell.state == State::Complete
    }

    /// Whether it is the rate of few people.
    fn is_few(&self) -> bool {
        self.cell.size < FEWEST_PEOPLE
    }

    /// Returns both ends of the interval, 0–1.
    fn ends(&self) -> (f64, f64) {
        self.cell
            .interval()
            .unwrap_or((self.cell.rate(), self.cell.rate()))
    }
}

/// Returns a point for each cohort, oldest first. `None` if the cohort has no such number or only a
/// lower bound.
fn cells(table: &Table, column: usize) -> Vec<Option<Point>> {
    let cell = |row: &Row| {
        row.cells
            .get(column)?
            .number()
            .filter(|number| number.state != State::PartlyRecorded)
    };
    table
        .rows
        .iter()
        .map(|row| {
            Some(Point {
                cohort: row.period,
                cell: cell(row)?,
            })
        })
        .collect()
}

fn described(table: &Table, column: usize) -> String {
    let points: Vec<Point> = cells(table, column)
        .into_iter()
        .flatten()
        .filter(Point::is_complete)
        .collect();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return format!(
            "{} {}.",
            capital(&nothing_yet(table)),
            words::column(table, column)
        );
    };
    let describe = |point: &Point| {
        format!(
            "{} for {}",
            words::percent(point.cell.rate()),
            point.cohort.label()
        )
    };
    let mut text = if points.len() > 1 {
        let by_rate = |a: &&Point, b: &&Point| a.cell.rate().total_cmp(&b.cell.rate());
        let low = points.iter().min_by(by_rate).unwrap_or(first);
        let high = points.iter().max_by(by_rate).unwrap_or(last);
        format!(
            "From {} to {}; the lowest is {}, the highest {}.",
            describe(first),
            describe(last),
            describe(low),
            describe(high)
        )
    } else {
        format!("{}.", describe(last))
    };
    if let Some(Some(average)) = table.averages.get(column) {
        text.push_str(&format!(
            " The average is {}.",
            words::percent(average.rate)
        ));
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Returns the axis. It covers the intervals, unless those of small cohorts would flatten the
/// rates.
fn axis_of(points: &[Option<Point>], average: Option<f64>) -> Axis {
    let greatest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    // A number in progress does not stretch the axis, unless there is no other.
    let none_is_complete = !points.iter().flatten().any(Point::is_complete);
    let points = || {
        let all = points.iter().flatten();
        all.filter(|point| none_is_complete || point.is_complete())
    };
    let rates = greatest(&mut points().map(|point| point.cell.rate()).chain(average));
    let ends = greatest(&mut points().map(|point| point.ends().1));
    // If the rate is 0 throughout, the full scale says more than one fitted to the interval.
    Axis::percent_fitted(if rates > 0.0 {
        ends.min(rates * 2.0)
    } else {
        1.0
    })
}

impl Form {
    fn draw(&self, table: &Table, column: usize) -> String {
        let title = format!("Return {}, by cohort", words::column(table, column));
        let canvas = (self.canvas.width, self.canvas.height);
        let mut out = opening(
            self.id,
            self.class,
            canvas,
            &title,
            &described(table, column),
        );
        out.push_str(&trend_layers(self, table, column));
        out.push_str("</svg>");
        out
    }
}

fn trend_layers(form: &Form, table: &Table, column: usize) -> String {
    let canvas = &form.canvas;
    let points = cells(table, column);
    let n = points.len();
    let average = table
        .averages
        .get(column)
        .copied()
        .flatten()
        .map(|average| average.rate);
    let axis = axis_of(&points, average);
    let reach = (coord(n.max(1)), axis.top);
    let theme = Theme::Light;
    let accent = theme.accent();
    let mute = theme.mute();
    let at = |x: f64, point: &Point| (x + 0.5, point.height().min(axis.top));
    let mut out = rules(canvas, &axis, reach.0, |tick| {
        format!("{tick:.0$}%", axis.decimals)
    });

    out.push_str(&canvas.layer("ticks", "", reach, |plane| {
        let style = label(20, mute, HPos::Center, VPos::Top);
        let periods: Vec<Period> = table.rows.iter().map(|row| row.period).collect();
        for (i, words) in period_labels(&periods, form.is_narrow) {
            write_at(plane, (coord(i) + 0.5, 0.0), (0, 14), words, &style)?;
        }
        let below = named(
            &format!("{} of", table.query.grain),
            &table.cohort(),
            "the cohort",
        );
        write_at(plane, (reach.0 / 2.0, 0.0), (0, 54), below, &style)
    }));

    // Numbers in progress are too low, so no line leads to them.
    let all = stretches(points.iter().map(|point| point.filter(Point::is_complete)));
    // An interval above the axis is cut off there, so that it does not cover the text above.
    let ends = |point: &Point| {
        let (low, high) = point.ends();
        (low * 100.0, (high * 100.0).min(axis.top))
    };
    let has_whiskers = n <= form.most_whiskers;
    if !has_whiskers {
        out.push_str(&canvas.layer("band", "", reach, |plane| {
            all.iter()
                .filter(|stretch| stretch.len() > 1)
                .try_for_each(|stretch| {
                    let low = stretch.iter().map(|(x, point)| (x + 0.5, ends(point).0));
                    let high = stretch
                        .iter()
                        .rev()
                        .map(|(x, point)| (x + 0.5, ends(point).1));
                    plane.draw(&Polygon::new(
                        low.chain(high).collect::<Vec<_>>(),
                        colour(accent).mix(0.18),
                    ))
                })
        }));
    }
    out.push_str(&canvas.layer("whiskers", "", reach, |plane| {
        let alone = all
            .iter()
            .filter(|stretch| has_whiskers || stretch.len() == 1)
            .flatten()
            .filter(|(_, point)| !point.is_few());
        alone.into_iter().try_for_each(|(x, point)| {
            let (low, high) = ends(point);
            plane.draw(&PathElement::new(
                vec![(x + 0.5, low), (x + 0.5, high)],
                stroke(accent, 0.55, 3),
            ))
        })
    }));
    if let Some(rate) = average {
        let height = rate * 100.0;
        out.push_str(
            &canvas.layer("mean", " stroke-dasharray=\"10 8\"", reach, |plane| {
                plane.draw(&PathElement::new(
                    vec![(0.0, height), (reach.0, height)],
                    stroke(mute, 1.0, 2),
                ))
            }),
        );
        out.push_str(&canvas.layer("ticks", "", reach, |plane| {
            let words = |v| label(20, mute, HPos::Left, v);
            let rate = words::percent(rate);
            if form.is_narrow {
                write_at(
                    plane,
                    (reach.0, height),
                    (10, -2),
                    "average".to_owned(),
                    &words(VPos::Bottom),
                )?;
                return write_at(plane, (reach.0, height), (10, 4), rate, &words(VPos::Top));
            }
            write_at(
                plane,
                (reach.0, height),
                (14, 0),
                format!("average {rate}"),
                &words(VPos::Center),
            )
        }));
    }
    out.push_str(&canvas.layer(
        "average",
        " stroke-linejoin=\"round\" stroke-linecap=\"round\"",
        reach,
        |plane| {
            all.iter()
                .filter(|stretch| stretch.len() > 1)
                .try_for_each(|stretch| {
                    let line: Vec<(f64, f64)> =
                        stretch.iter().map(|(x, point)| at(*x, point)).collect();
                    plane.draw(&PathElement::new(line, stroke(accent, 1.0, 4)))
                })
        },
    ));
    let (radius, width) = if has_whiskers { (6, 4) } else { (3, 2) };
    // Rates of few people are grey and dashed.
    for (class, attributes, complete, few, opacity, radius, width) in [
        ("dots full", "", true, false, 1.0, radius, width),
        (
            "dots few",
            " stroke-dasharray=\"4 3\"",
            true,
            true,
            1.0,
            radius,
            width,
        ),
        (
            "dots running",
            "",
            false,
            false,
            0.5,
            radius.min(5),
            width.min(3),
        ),
    ] {
        // On a phone, dense dots would look like a thicker line. Only points without neighbours get
        // one there.
        let alone = |i: usize| {
            let there = |i: Option<usize>| {
                i.and_then(|i| points.get(i)?.filter(Point::is_complete))
                    .is_some()
            };
            !there(i.checked_sub(1)) && !there(Some(i + 1))
        };
        let dotted = |i: usize| !complete || !form.is_narrow || has_whiskers || alone(i);
        let of_class = || {
            let all = points.iter().enumerate().filter(|(i, _)| dotted(*i));
            let is_of = |p: &Point| p.is_complete() == complete && (!complete || p.is_few() == few);
            all.filter_map(move |(i, p)| Some((i, p.filter(is_of)?)))
        };
        let ink = if few { mute } else { accent };
        let group = canvas.layer(class, attributes, reach, |plane| {
            of_class().try_for_each(|(i, point)| {
                plane.draw(&Circle::new(
                    at(coord(i), &point),
                    radius,
                    stroke(ink, opacity, width),
                ))
            })
        });
        // Filled or hollow, and opaque: the lines end at a dot.
        let fill = if complete && !few {
            accent.to_string()
        } else {
            "#ffffff".to_owned()
        };
        let group = group.replace("fill=\"none\"", &format!("fill=\"{fill}\""));
        let group = group.replace(" fill-opacity=", " stroke-opacity=");
        out.push_str(&addressed(
            &group,
            "circle",
            of_class().map(|(_, point)| point.cohort),
        ));
    }
    out.push_str(&newest(form, &points, average, reach));
    let rows = table.rows.iter().zip(&points);
    let rows = rows.map(|(row, point)| hit(table, row, point.as_ref()));
    out.push_str(&hits(canvas, Columns::Bars, &[], rows));
    if !points.iter().flatten().any(Point::is_complete) {
        out.push_str(&canvas.layer("ticks", "", reach, |plane| {
            let style = label(24, mute, HPos::Center, VPos::Center);
            write_at(
                plane,
                (reach.0 / 2.0, reach.1 * 0.875),
                (0, 0),
                nothing_yet(table).to_owned(),
                &style,
            )
        }));
    }
    out
}

/// Describes the point of a cohort for the pointer.
fn hit(table: &Table, row: &Row, point: Option<&Point>) -> Hit {
    let label = row.period.label();
    let text = match point {
        None => format!("{label} · no number"),
        Some(point) => {
            let cell = &point.cell;
            let (low, high) = point.ends();
            let state = match point.is_complete() {
                true => "",
                false => &format!(" · {}", words::in_progress(table.data_ends)),
            };
            format!(
                "{label} · {} ({}) · {} of {}{state}",
                words::rate_of(cell.rate(), cell.size),
                words::interval((low, high)),
                thousands(cell.retained),
                thousands(cell.size)
            )
        }
    };
    Hit {
        at: row.period.to_string(),
        text,
    }
}

/// Draws the number of the newest complete cohort above or below its point, away from the average's
/// rule and the line.
fn newest(
    form: &Form,
    points: &[Option<Point>],
    average: Option<f64>,
    reach: (f64, f64),
) -> String {
    let canvas = &form.canvas;
    let Some((i, point)) = points
        .iter()
        .enumerate()
        .rev()
        .find_map(|(i, p)| Some((i, p.filter(Point::is_complete)?)))
    else {
        return String::new();
    };
    let spot = |i: usize, height: f64| canvas.spot(reach, (coord(i) + 0.5, height.min(reach.1)));
    let mut taken = Taken::default();
    if let Some(rate) = average {
        let rule = [0, points.len()].map(|i| (spot(i, 0.0).0, spot(i, rate * 100.0).1));
        taken.line(&rule, 4.0);
    }
    for stretch in stretches(points.iter().map(|point| point.filter(Point::is_complete))) {
        let line: Vec<Spot> = stretch
            .iter()
            .map(|(x, point)| canvas.spot(reach, (x + 0.5, point.height())))
            .collect();
        taken.line(&line, 4.0);
    }
    for (i, running) in points
        .iter()
        .enumerate()
        .filter_map(|(i, p)| Some((i, p.filter(|p| !p.is_complete())?)))
    {
        taken.line(&[spot(i, running.height())], 8.0);
    }
    let text = words::rate_of(point.cell.rate(), point.cell.size);
    let (low, high) = point.ends();
    let above = Frame::above(spot(i, high * 100.0), &text, form.label).moved(0.0, -7.0);
    let below = Frame::above(spot(i, low * 100.0), &text, form.label).moved(0.0, form.label + 7.0);
    let aside = above.width() / 2.0 + 8.0;
    let near = [0.0, aside, -aside]
        .into_iter()
        .flat_map(|x| [above, below].map(|frame| frame.moved(x, 0.0)));
    let far = (1..12).map(|n| above.moved(0.0, -14.0 * f64::from(n)));
    let left = f64::from(canvas.left);
    let right = f64::from(canvas.right) + 6.0;
    let frame = near
        .chain(far)
        .map(|frame| frame.between(left, right))
        .find(|frame| {
            frame.top >= 0.0
                && frame.bottom <= f64::from(canvas.bottom) - 2.0
                && taken.is_free(frame)
        })
        .unwrap_or(above.between(left, right));
    let halo = " font-weight=\"700\" paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"6\" stroke-linejoin=\"round\"";
    canvas.layer("labels", halo, reach, |plane: &Plane<'_>| {
        let style = label(24, Theme::Light.accent(), HPos::Center, VPos::Bottom);
        write_at(
            plane,
            canvas.point(reach, (frame.middle(), frame.bottom)),
            (0, 0),
            text.clone(),
            &style,
        )
    })
}
