//! Bar charts: the sizes of cohorts and other counts by period.

use plotters::prelude::Rectangle;
use plotters::style::Color;
use plotters::style::text_anchor::{HPos, VPos};

use crate::calendar::{Grain, Period};
use crate::render::axis::Axis;
use crate::render::chart::{
    Canvas, Columns, Hit, SIZES, TEXT, addressed, colour, coord, hits, label, named, nothing_yet,
    opening, rules, short_count, write_at,
};
use crate::render::colour::Theme;
use crate::render::{self, words};
use crate::reports::retention::{Row, State, Table};

/// Draws the number of people of each cohort, for a page.
pub fn sizes(table: &Table) -> String {
    let greatest = table.rows.iter().max_by_key(|row| row.people());
    let text = match (greatest, table.rows.len()) {
        (Some(row), n) if row.people() > 0 => format!(
            "{}; the largest is {} with {}.",
            render::many(u64::try_from(n).expect("a count fits in 64 bits"), "cohort"),
            row.period.label(),
            words::people(row.people())
        ),
        _ if !table.is_recorded() => "No cohort is recorded.".to_owned(),
        _ => "No cohort has people.".to_owned(),
    };
    let mut out = opening(
        "sizes",
        "chart sizes",
        (SIZES.width, SIZES.height),
        "Cohort size",
        &text,
    );
    out.push_str(&if table.is_empty() {
        no_bars(table)
    } else {
        size_layers(table)
    });
    out.push_str("</svg>");
    out
}

/// Returns the message of a chart without bars.
fn no_bars(table: &Table) -> String {
    SIZES.layer("ticks", "", (1.0, 1.0), |plane| {
        let style = label(TEXT, Theme::Light.mute(), HPos::Center, VPos::Center);
        let middle = SIZES.point((1.0, 1.0), (f64::from(SIZES.width) / 2.0, 170.0));
        write_at(plane, middle, (0, 0), nothing_yet(table).to_owned(), &style)
    })
}

fn size_layers(table: &Table) -> String {
    let people = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    let bars: Vec<Bar> = table
        .rows
        .iter()
        .map(|row| Bar {
            period: row.period,
            state: row.state,
            height: people(row.people()),
        })
        .collect();
    let axis = Axis::count(greatest(&bars));
    let n = bars.len();
    let mut at: Vec<usize> = if n < 5 {
        (0..n).collect()
    } else {
        vec![0, n / 2, n - 1]
    };
    at.dedup();
    let labelled: Vec<(usize, String)> = at
        .into_iter()
        .map(|i| {
            let period = bars[i].period;
            let words = match (period.grain(), n) {
                (Grain::Hour, 3..) => period.local_start().format("%-d %b %H:%M").to_string(),
                (Grain::Day | Grain::Week(_), n) if n > 180 => {
                    period.local_start().format("%b %Y").to_string()
                }
                _ => period.short_label(),
            };
            (i, words)
        })
        .collect();
    let below = named(
        &format!("{} of", table.query.grain),
        &table.cohort(),
        "the cohort",
    );
    let layers = bar_layers(
        &SIZES,
        &axis,
        &bars,
        |tick| short_count(tick, axis.top),
        &labelled,
        &below,
    );
    // Rectangles appear in drawing order, and only bars are rectangles.
    let drawn = [State::Complete, State::InProgress]
        .into_iter()
        .flat_map(|state| {
            let bars = bars
                .iter()
                .filter(move |bar| bar.state == state && bar.height > 0.0);
            bars.map(|bar| bar.period)
        });
    let hit = |row: &Row| Hit {
        at: row.period.to_string(),
        text: format!("{} · {}", row.period.label(), size(table, row)),
    };
    addressed(&layers, "rect", drawn)
        + &hits(&SIZES, Columns::Bars, &[], table.rows.iter().map(hit))
}

/// Formats the size of a cohort with its state.
fn size(table: &Table, row: &Row) -> String {
    let Some(people) = row.size.map(words::people) else {
        return "not recorded".to_owned();
    };
    match row.state {
        State::InProgress => format!("{people} · {}", words::in_progress(table.data_ends)),
        _ if table.is_partial(row) => format!("at least {people} · partly recorded"),
        _ => people,
    }
}

/// Returns the height of the highest bar that does not change any more; of the highest one if all
/// do. One in progress does not stretch the axis.
pub(in crate::render) fn greatest(bars: &[Bar]) -> f64 {
    let highest = |is_final: bool| {
        let bars = bars.iter();
        let bars = bars.filter(|bar| !is_final || bar.state != State::InProgress);
        bars.map(|bar| bar.height).fold(0.0, f64::max)
    };
    match highest(true) {
        0.0 => highest(false),
        highest => highest,
    }
}

/// A bar for a period, with its height on the chart's axis.
pub(in crate::render) struct Bar {
    pub period: Period,
    pub state: State,
    pub height: f64,
}

/// Draws bars side by side. Bars in progress are pale, `labelled` ones are named, and `below` is a
/// line of text under the axis.
pub(in crate::render) fn bar_layers(
    canvas: &Canvas,
    axis: &Axis,
    bars: &[Bar],
    ticks: impl Fn(f64) -> String,
    labelled: &[(usize, String)],
    below: &str,
) -> String {
    let theme = Theme::Light;
    let n = bars.len();
    let right = coord(n.max(1));
    let reach = (right, axis.top);
    let mut out = rules(canvas, axis, right, ticks);
    // A few cohorts do not get wider bars.
    let half = if n > 150 {
        0.5
    } else {
        0.42_f64.min(right / 24.0)
    };
    for (class, state, opacity) in [
        ("bars", State::Complete, 0.78),
        ("bars running", State::InProgress, 0.32),
    ] {
        out.push_str(&canvas.layer(class, "", reach, |plane| {
            let bars = bars
                .iter()
                .enumerate()
                .filter(|(_, bar)| bar.state == state && bar.height > 0.0);
            bars.map(|(i, bar)| (coord(i) + 0.5, bar.height.min(axis.top)))
                .try_for_each(|(x, height)| {
                    let style = colour(theme.accent()).mix(opacity).filled();
                    plane.draw(&Rectangle::new(
                        [(x - half, height), (x + half, 0.0)],
                        style,
                    ))
                })
        }));
    }
    out.push_str(&canvas.layer("ticks", "", reach, |plane| {
        let style = |h| label(TEXT, theme.mute(), h, VPos::Top);
        write_at(
            plane,
            (right / 2.0, 0.0),
            (0, 54),
            below.to_owned(),
            &style(HPos::Center),
        )?;
        labelled.iter().try_for_each(|(i, words)| {
            let (h, x) = match *i {
                // Wide columns have room for a label below their middle.
                i if n < 8 => (HPos::Center, coord(i) + 0.5),
                0 => (HPos::Left, 0.0),
                i if i == n - 1 => (HPos::Right, right),
                i => (HPos::Center, coord(i) + 0.5),
            };
            write_at(plane, (x, 0.0), (0, 14), words.clone(), &style(h))
        })
    }));
    out
}
