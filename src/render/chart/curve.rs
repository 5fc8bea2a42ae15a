//! The retention curve.

use plotters::prelude::{Circle, PathElement, Polygon};
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use crate::calendar::Period;
use crate::render::axis::{Axis, column_step};
use crate::render::chart::label_layout::{Frame, Spot, Taken};
use crate::render::chart::{
    CURVE, Canvas, Columns, Hit, SNUG, TEXT, addressed, colour, coord, hits, label, named,
    nothing_yet, opening, rules, stretches, stroke, titled, write_at,
};
use crate::render::colour::Theme;
use crate::render::{many, thousands, words};
use crate::reports::retention::figures::Figures;
use crate::reports::retention::{
    Average, Benchmarks, Cell, FEWEST_AT_RISK, FEWEST_PEOPLE, Measure, Number, Table,
};

/// The maximum number of single cohorts behind the average. More would be a grey area.
pub const MAX_SINGLE: usize = 60;

/// The maximum number of columns for which the average has dots.
const MAX_DOTS: usize = 40;

/// The wide form of the curve, and that of a phone.
const ROOMY: Form = Form {
    canvas: CURVE,
    id: "curve",
    class: "chart curve roomy",
};
const NARROW: Form = Form {
    canvas: SNUG,
    id: "curve-small",
    class: "chart curve snug",
};

/// The form of a curve for one width of a page.
struct Form {
    canvas: Canvas,
    id: &'static str,
    class: &'static str,
}

/// Draws the retention curve as a standalone file, with a visible title, on white.
pub fn file(table: &Table, benchmarks: &Benchmarks) -> String {
    let mut facts: Vec<String> = words::range(table).into_iter().collect();
    facts.push(words::entries(table.entries));
    facts.push(as_of(table));
    facts.extend(words::data_ends(table));
    let mut inner = opening(
        "retention-chart",
        "chart",
        (CURVE.width, CURVE.height),
        &table.title(),
        &described(table),
    );
    inner.push_str(&ROOMY.layers(table, benchmarks));
    inner.push_str("</svg>");
    let caption = curve_caption(table, benchmarks);
    titled(&inner, &table.title(), &[facts.join(" · "), caption])
}

/// Returns the moment of a table: `as of 23 Nov 2026, 14:05 UTC`.
pub(in crate::render) fn as_of(table: &Table) -> String {
    format!(
        "as of {} {}",
        table.query.zone.local(table.now).format("%-d %b %Y, %H:%M"),
        table.query.calendar().words()
    )
}

/// Draws the retention curve for a page, without a visible title.
pub fn curve(table: &Table, benchmarks: &Benchmarks) -> String {
    ROOMY.draw(table, benchmarks)
}

/// Draws the retention curve for a narrow page.
pub fn curve_small(table: &Table, benchmarks: &Benchmarks) -> String {
    NARROW.draw(table, benchmarks)
}

/// Returns a short caption of the curve: `weighted average with its 95% band; thin lines are single
/// cohorts`.
pub fn curve_caption(table: &Table, benchmarks: &Benchmarks) -> String {
    let average = table.query.averaging.words();
    let band = if table.drawn().flatten().any(|a| band(&a).is_some()) {
        " with its 95% band"
    } else {
        ""
    };
    let drawn = single_cohorts(table).len();
    let with_people = table.rows.iter().filter(|row| row.people() > 0).count();
    let single = if drawn < with_people {
        format!("thin lines are {drawn} of {with_people} cohorts")
    } else {
        "thin lines are single cohorts".to_owned()
    };
    let whole = if table.has_running() {
        format!(", complete {}s only", table.query.grain)
    } else {
        String::new()
    };
    let until = match (table.query.measure, table.averages.len()) {
        (Measure::OnOrAfter, 2..) => {
            let last = table.query.last_offset();
            format!("; counted up to {} {last}", table.query.grain)
        }
        _ => String::new(),
    };
    let from = match (first_drawn(table), table.averages.first()) {
        (from @ 1.., Some(Some(first))) => format!(
            "; from {} {from}, {} 0 is {}",
            table.query.grain,
            table.query.grain,
            words::rate_of(first.rate, first.size)
        ),
        _ => String::new(),
    };
    let few = if table.drawn().eq(table.averages.iter().copied()) {
        String::new()
    } else {
        format!("; not drawn with fewer than {FEWEST_AT_RISK} people at risk")
    };
    let previous = benchmarks.previous.as_ref().map(|previous| {
        match previous.drawn().any(|average| average.is_some()) {
            true => "; dashed: the range before".to_owned(),
            false => format!("; the range before has no complete {}", table.query.grain),
        }
    });
    let previous = previous.unwrap_or_default();
    format!("{average}{band}{from}{previous}; {single}{whole}{until}{few}")
}

/// Returns the distance between the columns that the axis names. Brackets are wider than numbers.
pub(super) fn axis_step(table: &Table) -> usize {
    let cols = table.averages.len();
    match table.query.brackets {
        Some(_) => cols.div_ceil(10).max(1),
        None => column_step(table.query.grain, cols),
    }
}

/// Returns the first column that is drawn: 1 if column 0 would leave the others flat.
fn first_drawn(table: &Table) -> usize {
    usize::from(table.first_dwarfs())
}

/// Returns the band of an average: none of few people.
fn band(average: &Average) -> Option<(f64, f64)> {
    average.interval.filter(|_| average.size >= FEWEST_PEOPLE)
}

/// Describes a column for the pointer: `week 4 · 33.0% (31.5–34.5) · 7 cohorts · 1,204 of 3,650`.
fn hit(table: &Table, previous: Option<&Table>, column: usize) -> Hit {
    let name = words::column_name(table, column);
    let text = match table.averages[column] {
        None => format!("{name} · not complete{}", words::yet(table.data_ends)),
        Some(average) => {
            let ends = average.interval.map(words::interval);
            format!(
                "{name} · {}{} · {} · {} of {}",
                words::rate_of(average.rate, average.size),
                ends.map_or_else(String::new, |ends| format!(" ({ends})")),
                many(average.cohorts.into(), "cohort"),
                thousands(average.retained),
                thousands(average.size)
            )
        }
    };
    let before = previous.and_then(|previous| {
        let average = previous.averages.get(column).copied().flatten()?;
        Some(format!(
            "\n{} · {} · {} of {}",
            words::range(previous)?,
            words::rate_of(average.rate, average.size),
            thousands(average.retained),
            thousands(average.size)
        ))
    });
    Hit {
        at: column.to_string(),
        text: text + &before.unwrap_or_default(),
    }
}

fn described(table: &Table) -> String {
    let averages: Vec<(usize, Average)> = table
        .drawn()
        .enumerate()
        .filter_map(|(k, a)| Some((k, a?)))
        .collect();
    let first = averages.first().copied();
    let last = averages.last().copied();
    let came_back =
        |k: usize, rate: f64| format!("{} {}", words::percent(rate), words::column(table, k));
    match (first, last) {
        (Some((from, a)), Some((to, b))) if from < to => {
            format!(
                "The average goes from {} to {}.",
                came_back(from, a.rate),
                came_back(to, b.rate)
            )
        }
        (Some((k, a)), _) => format!("The average is {}.", came_back(k, a.rate)),
        _ => format!("No period is complete{}.", words::yet(table.data_ends)),
    }
}

/// Returns the rows that are drawn as single lines: all, or an even selection that includes the
/// newest.
pub(super) fn single_cohorts(table: &Table) -> Vec<usize> {
    let rows: Vec<usize> = (0..table.rows.len())
        .filter(|i| table.rows[*i].people() > 0)
        .collect();
    let every = rows.len().div_ceil(MAX_SINGLE).max(1);
    rows.into_iter().rev().step_by(every).collect()
}

/// A cohort and one unbroken part of its line.
type Single = (Period, Vec<(f64, f64)>);

impl Form {
    fn draw(&self, table: &Table, benchmarks: &Benchmarks) -> String {
        let canvas = (self.canvas.width, self.canvas.height);
        let mut out = opening(
            self.id,
            self.class,
            canvas,
            "Retention curve",
            &described(table),
        );
        out.push_str(&self.layers(table, benchmarks));
        out.push_str("</svg>");
        out
    }

    fn layers(&self, table: &Table, benchmarks: &Benchmarks) -> String {
        let canvas = &self.canvas;
        let from = first_drawn(table);
        let cols = table.averages.len() - from;
        let drawn = single_cohorts(table);
        let singles = || drawn.iter().filter_map(|i| table.rows.get(*i));
        let greatest = |all: &mut dyn Iterator<Item = f64>| all.fold(0.0, f64::max);
        let rates = singles()
            .flat_map(|row| row.cells.iter().skip(from).filter_map(Cell::complete))
            .map(|number| number.rate());
        let averages = || table.drawn().skip(from);
        let bands = averages()
            .flatten()
            .map(|a| band(&a).map_or(a.rate, |i| i.1));
        let previous: Vec<Option<f64>> = benchmarks
            .previous
            .iter()
            .flat_map(|previous| previous.drawn().skip(from))
            .map(|average| Some(average?.rate))
            .collect();
        let goal = benchmarks.goal.map(f64::from);
        let others = previous.iter().flatten().copied();
        let others = others.chain(goal.map(|goal| goal / 100.0));
        let averaged = averages().flatten().map(|a| a.rate);
        let highest = greatest(&mut rates.chain(averaged).chain(others));
        // If the rate is 0 throughout, the full scale says more than one fitted to the interval.
        let axis = Axis::percent(if highest > 0.0 {
            greatest(&mut bands.chain([highest]))
        } else {
            1.0
        });
        let right = coord(cols.saturating_sub(1).max(1));
        let reach = (right, axis.top);
        let theme = Theme::Light;
        let accent = theme.accent();
        let mute = theme.mute();
        let mut out = String::new();

        out.push_str(&rules(canvas, &axis, right, |tick| {
            format!("{tick:.0$}%", axis.decimals)
        }));
        out.push_str(&canvas.layer("ticks", "", reach, |plane| {
            let style = label(TEXT, mute, HPos::Center, VPos::Top);
            // As many as have room; a bracket is wider than a number.
            let room = self.canvas.width / 90;
            let step = (axis_step(table)..).find(|step| coord(cols / step) <= f64::from(room));
            for k in (0..cols).step_by(step.unwrap_or(1)) {
                let heading = words::column_heading(table, k + from);
                write_at(plane, (coord(k), 0.0), (0, 14), heading, &style)?;
            }
            let after = format!("{}s after", table.query.grain);
            let words = named(&after, &table.cohort(), "the first");
            write_at(plane, (right / 2.0, 0.0), (0, 54), words, &style)
        }));
        if let Some(goal) = goal {
            out.push_str(
                &canvas.layer("goal", " stroke-dasharray=\"14 8\"", reach, |plane| {
                    plane.draw(&PathElement::new(
                        vec![(0.0, goal), (right, goal)],
                        stroke(theme.ink(), 0.7, 2),
                    ))
                }),
            );
            out.push_str(&canvas.layer("ticks", "", reach, |plane| {
                let style = label(TEXT, theme.ink(), HPos::Right, VPos::Bottom);
                write_at(
                    plane,
                    (right, goal),
                    (0, -4),
                    format!("goal {goal}%"),
                    &style,
                )
            }));
        }
        // Numbers in progress or partly recorded are too low, so no line leads to them.
        let mut lines: Vec<Single> = singles()
            .flat_map(|row| {
                let line = |line: Vec<(f64, Number)>| {
                    line.into_iter()
                        .map(|(k, number)| (k, number.rate() * 100.0))
                        .collect()
                };
                stretches(row.cells.iter().skip(from).map(Cell::complete))
                    .into_iter()
                    .map(move |stretch| (row.period, line(stretch)))
            })
            .collect();
        lines.retain(|(_, points)| points.len() > 1);
        let group = canvas.layer("single", " stroke-linejoin=\"round\"", reach, |plane| {
            lines.iter().try_for_each(|(_, line)| {
                plane.draw(&PathElement::new(line.clone(), stroke(accent, 0.2, 2)))
            })
        });
        out.push_str(&addressed(
            &group,
            "polyline",
            lines.into_iter().map(|(period, _)| period),
        ));

        out.push_str(&canvas.layer("band", "", reach, |plane| {
            stretches(averages().map(|a| band(&a?)))
                .into_iter()
                .filter(|s| s.len() > 1)
                .try_for_each(|stretch| {
                    let low = stretch.iter().map(|(k, i)| (*k, i.0 * 100.0));
                    let high = stretch.iter().rev().map(|(k, i)| (*k, i.1 * 100.0));
                    plane.draw(&Polygon::new(
                        low.chain(high).collect::<Vec<_>>(),
                        colour(accent).mix(0.18),
                    ))
                })
        }));
        let before = stretches(previous.iter().map(|rate| Some((*rate)? * 100.0)));
        out.push_str(&canvas.layer(
            "previous",
            " stroke-linejoin=\"round\" stroke-dasharray=\"9 7\"",
            reach,
            |plane| {
                before.iter().try_for_each(|line| {
                    plane.draw(&PathElement::new(line.clone(), stroke(mute, 1.0, 3)))
                })
            },
        ));
        let average: Vec<Vec<(f64, f64)>> = stretches(averages().map(|a| Some(a?.rate * 100.0)));
        out.push_str(&canvas.layer(
            "average",
            " stroke-linejoin=\"round\" stroke-linecap=\"round\"",
            reach,
            |plane| {
                average.iter().try_for_each(|line| {
                    plane.draw(&PathElement::new(line.clone(), stroke(accent, 1.0, 5)))
                })
            },
        ));
        let is_few = |x: f64| {
            let found = averages().enumerate().find(|(k, _)| coord(*k) == x);
            found.is_some_and(|(_, a)| a.is_some_and(|a| a.size < FEWEST_PEOPLE))
        };
        for (class, attributes, few, ink) in [
            ("dots", "", false, accent),
            ("dots few", " stroke-dasharray=\"4 3\"", true, mute),
        ] {
            let dots = canvas.layer(class, attributes, reach, |plane| {
                average
                    .iter()
                    .filter(|line| cols <= MAX_DOTS || line.len() == 1)
                    .flatten()
                    .filter(|(x, _)| is_few(*x) == few)
                    .try_for_each(|point| plane.draw(&Circle::new(*point, 7, stroke(ink, 1.0, 4))))
            });
            out.push_str(&dots.replace("fill=\"none\"", "fill=\"#ffffff\""));
        }
        let columns = from..table.averages.len();
        out.push_str(&self.labels(table, reach, &average));
        out.push_str(&hits(
            canvas,
            Columns::Points,
            &[],
            columns.map(|k| hit(table, benchmarks.previous.as_ref(), k)),
        ));
        out
    }

    /// Draws the figures above the table at their points, and a message if there is no line.
    fn labels(&self, table: &Table, reach: (f64, f64), average: &[Vec<(f64, f64)>]) -> String {
        let canvas = &self.canvas;
        let from = first_drawn(table);
        let theme = Theme::Light;
        let halo = " font-weight=\"700\" paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"6\" stroke-linejoin=\"round\"";
        let figures = Figures::of(table);
        let mut taken = Taken::default();
        for line in average {
            taken.line(
                &line
                    .iter()
                    .map(|point| canvas.spot(reach, *point))
                    .collect::<Vec<_>>(),
                6.0,
            );
        }
        let mut placed: Vec<(Spot, HPos, String)> = Vec::new();
        let mut leaders: Vec<[Spot; 2]> = Vec::new();
        let returns = figures
            .returns
            .iter()
            .filter_map(|shown| Some((shown.column, shown.average?)))
            .filter(|(k, average)| *k >= from && table.is_drawn(average))
            .map(|(k, average)| (k - from, average));
        for (k, average) in returns {
            let text = words::rate_of(average.rate, average.size);
            let dot = canvas.spot(reach, (coord(k), average.rate * 100.0));
            let end = canvas.spot(
                reach,
                (
                    coord(k),
                    band(&average).map_or(average.rate, |i| i.1) * 100.0,
                ),
            );
            let (frame, leads) = room_for(canvas, &taken, dot, end.1, reach.0, &text);
            // The text is anchored so that larger fonts grow away from the line.
            let (h, x) = if frame.left > dot.0 {
                (HPos::Left, frame.left)
            } else {
                (HPos::Center, frame.middle())
            };
            if leads {
                leaders.push([dot, (frame.left, frame.bottom)]);
            }
            taken.frame(frame);
            placed.push(((x, frame.bottom), h, text));
        }
        let mut out = canvas.layer("leader", "", reach, |plane| {
            leaders.iter().try_for_each(|line| {
                let line = line.map(|spot| canvas.point(reach, spot)).to_vec();
                plane.draw(&PathElement::new(line, stroke(theme.mute(), 1.0, 2)))
            })
        });
        out.push_str(&canvas.layer("labels", halo, reach, |plane| {
            placed.iter().try_for_each(|(spot, h, text)| {
                let style = label(26, theme.accent(), *h, VPos::Bottom);
                write_at(
                    plane,
                    canvas.point(reach, *spot),
                    (0, 0),
                    text.clone(),
                    &style,
                )
            })
        }));
        if table.drawn().all(|average| average.is_none()) {
            out.push_str(&canvas.layer("ticks", "", reach, |plane| {
                let style = label(TEXT, theme.mute(), HPos::Center, VPos::Center);
                write_at(
                    plane,
                    (reach.0 / 2.0, reach.1 * 0.625),
                    (0, 0),
                    nothing_yet(table).to_owned(),
                    &style,
                )
            }));
        }
        out
    }
}

/// The font size of a figure beside the line.
const FIGURE: f64 = 28.0;

/// Finds a place for a figure, and whether it needs a leader line: above its point; to the right of
/// it if the average falls steeply and the next point is far; or further up. `high` is the upper
/// end of the point's interval.
fn room_for(
    canvas: &Canvas,
    taken: &Taken,
    dot: Spot,
    high: f64,
    steps: f64,
    text: &str,
) -> (Frame, bool) {
    let left = f64::from(canvas.left) + 4.0;
    let right = f64::from(canvas.right);
    let step = (right - f64::from(canvas.left)) / steps;
    let above = Frame::above((dot.0, high - 12.0), text, FIGURE);
    let aside = above.moved(above.width() / 2.0 + 6.0, 0.0);
    let lifted = |frame: Frame| [0.0, -7.0, -14.0].map(|up| (frame.moved(0.0, up), false));
    let beside = lifted(aside)
        .into_iter()
        .filter(|(frame, _)| frame.right < dot.0 + step + 6.0);
    let far = (1..12).map(|n| (aside.moved(6.0, -16.0 * f64::from(n)), true));
    let all = lifted(above).into_iter().chain(beside).chain(far);
    all.map(|(frame, leads)| (frame.between(left, right), leads))
        .find(|(frame, _)| frame.top > 0.0 && taken.is_free(frame))
        .unwrap_or((above.between(left, right), false))
}
