//! Charts of a retention table, as SVG drawn by plotters.
//!
//! Each kind of mark is drawn by itself and wrapped in a group with a class, so that a page's stylesheet can give it the
//! colours of its theme; the colours plotters writes as attributes are those of the light theme, for a chart that
//! stands alone. One unit is half a CSS pixel at the usual size, as plotters places marks on whole units only.

use std::fmt::Write as _;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, Circle, DrawingArea, DrawingAreaErrorKind, EmptyElement, IntoDrawingArea, IntoFont, PathElement,
    Polygon, RGBColor, Rectangle, SVGBackend, ShapeStyle, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, TextStyle};

use crate::calendar::{Grain, Period};
use crate::render::axis::{Axis, column_step};
use crate::render::colour::{Rgb, Theme};
use crate::render::{self, words};
use crate::reports::figures::Figures;
use crate::reports::retention::{Averaging, State, Table};

/// The most single cohorts drawn behind the average: more would be a grey block.
pub const MAX_SINGLE: usize = 60;

/// The most columns for which the average has a dot at each.
const MAX_DOTS: usize = 40;

const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

/// What plotters writes on each text; taken out again, as the whole chart has one font.
const DRAWN_FONT: &str = "sans-serif";

type Backend<'a> = SVGBackend<'a>;
type Plane<'a> = DrawingArea<Backend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The retention curve as a file of its own: with a title in words, on white.
pub fn svg(table: &Table) -> String {
    let head = 136;
    let (width, height) = (CURVE.width, CURVE.height + head + 16);
    let title = render::title(table);
    let mut facts: Vec<String> = words::range(table).into_iter().collect();
    facts.extend([words::entries(table.entries), format!("as of {} UTC", table.now.format("%-d %b %Y, %H:%M"))]);
    let (ink, mute) = (Theme::Light.ink(), Theme::Light.mute());
    let mut out = opening("retention-chart", "chart", (width, height), &title, &described(table));
    let _ = write!(out, r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##);
    let headline = |out: &mut String, y: u32, size: u32, weight: u32, fill: Rgb, text: &str| {
        let text = escaped(text);
        let _ = write!(
            out,
            r#"<text x="40" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}">{text}</text>"#
        );
    };
    headline(&mut out, 54, 30, 700, ink, &words::shortened(&title, 64));
    headline(&mut out, 88, 20, 400, mute, &facts.join(" · "));
    headline(&mut out, 116, 20, 400, mute, &curve_caption(table));
    let _ = write!(out, r#"<g transform="translate(0,{head})">"#);
    out.push_str(&curve_layers(table));
    out.push_str("</g></svg>\n");
    out
}

/// The retention curve for a page, without a title of its own to see.
pub fn curve(table: &Table) -> String {
    let mut out = opening("curve", "chart curve", (CURVE.width, CURVE.height), "Retention curve", &described(table));
    out.push_str(&curve_layers(table));
    out.push_str("</svg>");
    out
}

/// How many people each cohort has, for a page.
pub fn sizes(table: &Table) -> String {
    let greatest = table.rows.iter().max_by_key(|row| row.size);
    let text = match (greatest, table.rows.len()) {
        (Some(row), n) if row.size > 0 => format!(
            "{}; the largest is {} with {}.",
            render::many(u64::try_from(n).unwrap_or(u64::MAX), "cohort"),
            row.period.label(),
            words::people(row.size)
        ),
        _ => "No cohort holds anybody.".to_owned(),
    };
    let mut out = opening("sizes", "chart sizes", (SIZES.width, SIZES.height), "Cohort size", &text);
    out.push_str(&size_layers(table));
    out.push_str("</svg>");
    out
}

/// What the curve shows, in a few words: `weighted average with its 95% band; thin lines are single cohorts`.
pub fn curve_caption(table: &Table) -> String {
    let average = match table.query.averaging {
        Averaging::Weighted => "weighted average",
        Averaging::Simple => "simple average",
    };
    let band = if table.averages.iter().flatten().any(|a| a.interval.is_some()) { " with its 95% band" } else { "" };
    let drawn = single_cohorts(table).len();
    let with_people = table.rows.iter().filter(|row| row.size > 0).count();
    let single = if drawn < with_people {
        format!("thin lines are {drawn} of {with_people} cohorts")
    } else {
        "thin lines are single cohorts".to_owned()
    };
    let dashed = if table.has_running() { ", dashed while in progress" } else { "" };
    format!("{average}{band}; {single}{dashed}")
}

/// The canvas of a chart and where its plane lies, in units.
pub(super) struct Canvas {
    pub width: u32,
    pub height: u32,
    pub left: i32,
    pub right: i32,
    pub top: i32,
    pub bottom: i32,
}

pub(super) const CURVE: Canvas = Canvas { width: 1240, height: 540, left: 104, right: 1204, top: 30, bottom: 448 };
pub(super) const SIZES: Canvas = Canvas { width: 696, height: 540, left: 104, right: 684, top: 30, bottom: 448 };

impl Canvas {
    /// Draws marks in a group of one class. `attributes` are inherited by the marks.
    fn layer(
        &self,
        class: &str,
        attributes: &str,
        (right, top): (f64, f64),
        marks: impl FnOnce(&Plane<'_>) -> Drawn,
    ) -> String {
        let mut svg = String::new();
        {
            let root: DrawingArea<Backend<'_>, Shift> =
                SVGBackend::with_string(&mut svg, (self.width, self.height)).into_drawing_area();
            let plane = root.apply_coord_spec(Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(
                0.0..right,
                0.0..top,
                (self.left..self.right, self.bottom..self.top),
            ));
            // The backend writes into a String, which cannot fail.
            let _ = marks(&plane).and_then(|()| plane.present());
        }
        // Without plotters' own <svg …> and </svg>.
        let inner = svg.split_once('\n').map_or("", |(_, rest)| rest);
        let inner = inner.trim_end().strip_suffix("</svg>").unwrap_or(inner).trim_end();
        if inner.is_empty() {
            return String::new();
        }
        grouped(class, attributes, inner)
    }
}

/// A group of marks. What all of them have in common is said once, by the group: that is half a chart's weight.
fn grouped(class: &str, attributes: &str, marks: &str) -> String {
    let font = format!(" font-family=\"{DRAWN_FONT}\"");
    let mut marks = marks.replace('\n', "").replace(&font, "").replace(" opacity=\"1\"", "").replace(" \"/>", "\"/>");
    let (count, lines) = (marks.matches('<').count() - marks.matches("</").count(), marks.starts_with("<polyline"));
    let mut shared = String::new();
    for name in ["fill", "stroke", "stroke-width", "opacity", "font-size", "text-anchor"] {
        let found = marks.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        let Some((value, _)) = found else { continue };
        let attribute = format!(" {name}=\"{value}\"");
        if marks.matches(&attribute).count() == count {
            // A group's own opacity would flatten lines that cross.
            let name = match (name, lines) {
                ("opacity", true) => "stroke-opacity",
                ("opacity", false) => "fill-opacity",
                (name, _) => name,
            };
            let _ = write!(shared, " {name}=\"{value}\"");
            marks = marks.replace(&attribute, "");
        }
    }
    format!("<g class=\"{class}\"{attributes}{shared}>{marks}</g>")
}

pub(super) fn opening(id: &str, class: &str, (width, height): (u32, u32), title: &str, text: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{class}\" viewBox=\"0 0 {width} {height}\" font-family=\"{FONT}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-desc\"><title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
        escaped(title),
        escaped(text)
    )
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn described(table: &Table) -> String {
    let mut averages = table.averages.iter().enumerate().filter_map(|(k, a)| Some((k, (*a)?)));
    let (first, last) = (averages.clone().next(), averages.next_back());
    let came_back = |k: usize, rate: f64| format!("{} {}", words::percent(rate), words::column(table, k));
    match (first, last) {
        (Some((from, a)), Some((to, b))) if from < to => {
            format!("The average goes from {} to {}.", came_back(from, a.rate), came_back(to, b.rate))
        }
        (Some((k, a)), _) => format!("The average is {}.", came_back(k, a.rate)),
        _ => "No period is complete yet.".to_owned(),
    }
}

/// A column, row number or tick as a coordinate.
fn coord(index: usize) -> f64 {
    u32::try_from(index).map_or(f64::MAX, f64::from)
}

fn colour(Rgb(r, g, b): Rgb) -> RGBColor {
    RGBColor(r, g, b)
}

fn stroke(rgb: Rgb, opacity: f64, width: u32) -> ShapeStyle {
    colour(rgb).mix(opacity).stroke_width(width)
}

fn label(size: u32, rgb: Rgb, h: HPos, v: VPos) -> TextStyle<'static> {
    // plotters divides a font's size by 1.24 when it writes it.
    let font = (DRAWN_FONT, f64::from(size) * 1.24).into_font();
    TextStyle { font, color: colour(rgb).to_backend_color(), pos: Pos::new(h, v) }
}

/// Writes a text some units away from a point of the plane.
fn write_at(plane: &Plane<'_>, point: (f64, f64), away: (i32, i32), text: String, style: &TextStyle<'_>) -> Drawn {
    plane.draw(&(EmptyElement::at(point) + Text::new(text, away, style.clone())))
}

/// The rows whose cells are drawn as single lines: all, or evenly chosen ones with the newest among them.
fn single_cohorts(table: &Table) -> Vec<usize> {
    let rows: Vec<usize> = (0..table.rows.len()).filter(|i| table.rows[*i].size > 0).collect();
    let every = rows.len().div_ceil(MAX_SINGLE).max(1);
    rows.into_iter().rev().step_by(every).collect()
}

/// The unbroken stretches of a list with holes.
fn stretches<T>(list: impl IntoIterator<Item = Option<T>>) -> Vec<Vec<(f64, T)>> {
    let (mut all, mut open) = (Vec::new(), Vec::new());
    for (k, item) in list.into_iter().enumerate() {
        match item {
            Some(item) => open.push((coord(k), item)),
            None if open.is_empty() => {}
            None => all.push(std::mem::take(&mut open)),
        }
    }
    if !open.is_empty() {
        all.push(open);
    }
    all
}

fn curve_layers(table: &Table) -> String {
    let cols = table.averages.len();
    let drawn = single_cohorts(table);
    let singles = || drawn.iter().filter_map(|i| table.rows.get(*i));
    let greatest = |all: &mut dyn Iterator<Item = f64>| all.fold(0.0, f64::max);
    let rates = singles().flat_map(|row| row.cells.iter().flatten()).map(|cell| cell.rate());
    let bands = table.averages.iter().flatten().map(|a| a.interval.map_or(a.rate, |i| i.1));
    let highest = greatest(&mut rates.chain(table.averages.iter().flatten().map(|a| a.rate)));
    // Where nobody came back the whole scale says more than the room for error alone.
    let axis = Axis::percent(if highest > 0.0 { greatest(&mut bands.chain([highest])) } else { 1.0 });
    let right = coord(cols.saturating_sub(1).max(1));
    let reach = (right, axis.top);
    let theme = Theme::Light;
    let (accent, mute) = (theme.accent(), theme.mute());
    let mut out = String::new();

    out.push_str(&rules(&CURVE, &axis, right, |tick| format!("{tick:.0$}%", axis.decimals)));
    out.push_str(&CURVE.layer("ticks", "", reach, |plane| {
        let style = label(20, mute, HPos::Center, VPos::Top);
        for k in (0..cols).step_by(column_step(table.query.grain, cols)) {
            write_at(plane, (coord(k), 0.0), (0, 14), k.to_string(), &style)?;
        }
        let words = format!("{}s after {}", table.query.grain, words::shortened(&table.query.cohort.to_string(), 48));
        write_at(plane, (right / 2.0, 0.0), (0, 54), words, &style)
    }));
    // Solid while complete, dashed from the last complete cell on.
    let (mut solid, mut dashed) = (Vec::new(), Vec::new());
    for row in singles() {
        let upto = |last: State| {
            row.cells.iter().map(move |c| c.filter(|c| last == State::InProgress || c.state == State::Complete))
        };
        let points = |stretch: Vec<(f64, crate::reports::retention::Cell)>| -> Vec<(f64, f64)> {
            stretch.into_iter().map(|(k, cell)| (k, cell.rate() * 100.0)).collect()
        };
        let complete = upto(State::Complete).flatten().count();
        solid.extend(stretches(upto(State::Complete)).into_iter().map(points));
        let whole = stretches(upto(State::InProgress)).into_iter().map(points).next().unwrap_or_default();
        dashed.push(whole[complete.saturating_sub(1).min(whole.len())..].to_vec());
    }
    let lines = |lines: Vec<Vec<(f64, f64)>>, opacity: f64| {
        move |plane: &Plane<'_>| {
            lines
                .into_iter()
                .filter(|line| line.len() > 1)
                .try_for_each(|line| plane.draw(&PathElement::new(line, stroke(accent, opacity, 2))))
        }
    };
    out.push_str(&CURVE.layer("single", " stroke-linejoin=\"round\"", reach, lines(solid, 0.2)));
    out.push_str(&CURVE.layer("single running", " stroke-dasharray=\"5 5\"", reach, lines(dashed, 0.22)));

    out.push_str(&CURVE.layer("band", "", reach, |plane| {
        stretches(table.averages.iter().map(|a| (*a)?.interval)).into_iter().filter(|s| s.len() > 1).try_for_each(
            |stretch| {
                let low = stretch.iter().map(|(k, i)| (*k, i.0 * 100.0));
                let high = stretch.iter().rev().map(|(k, i)| (*k, i.1 * 100.0));
                plane.draw(&Polygon::new(low.chain(high).collect::<Vec<_>>(), colour(accent).mix(0.18)))
            },
        )
    }));
    let average: Vec<Vec<(f64, f64)>> = stretches(table.averages.iter().map(|a| Some((*a)?.rate * 100.0)));
    out.push_str(&CURVE.layer("average", " stroke-linejoin=\"round\" stroke-linecap=\"round\"", reach, |plane| {
        average.iter().try_for_each(|line| plane.draw(&PathElement::new(line.clone(), stroke(accent, 1.0, 5))))
    }));
    let dots = CURVE.layer("dots", "", reach, |plane| {
        average
            .iter()
            .filter(|line| cols <= MAX_DOTS || line.len() == 1)
            .flatten()
            .try_for_each(|point| plane.draw(&Circle::new(*point, 6, stroke(accent, 1.0, 4))))
    });
    out.push_str(&dots.replace("fill=\"none\"", "fill=\"#ffffff\""));
    out.push_str(&labels(table, reach));
    out
}

/// The figures above the table, written at their points; and what to read where there is no line.
fn labels(table: &Table, reach: (f64, f64)) -> String {
    let theme = Theme::Light;
    let halo =
        " font-weight=\"700\" paint-order=\"stroke\" stroke=\"#ffffff\" stroke-width=\"6\" stroke-linejoin=\"round\"";
    let figures = Figures::of(table);
    let mut out = CURVE.layer("labels", halo, reach, |plane| {
        let last = table.averages.len().saturating_sub(1);
        [figures.next, figures.later].into_iter().flatten().try_for_each(|(k, average)| {
            // Up and to the right of a point there is room, as curves fall; not at the right edge.
            let (h, aside) = if k == last && k > 0 { (HPos::Right, 0) } else { (HPos::Left, 6) };
            let style = label(22, theme.accent(), h, VPos::Bottom);
            let at = (coord(k), average.interval.map_or(average.rate, |i| i.1) * 100.0);
            write_at(plane, at, (aside, -12), words::percent(average.rate), &style)
        })
    });
    if table.averages.iter().all(Option::is_none) {
        out.push_str(&CURVE.layer("ticks", "", reach, |plane| {
            let nobody = if table.is_empty() { "nobody in any cohort" } else { "no complete period yet" };
            let style = label(24, theme.mute(), HPos::Center, VPos::Center);
            write_at(plane, (reach.0 / 2.0, reach.1 * 0.625), (0, 0), nobody.to_owned(), &style)
        }));
    }
    out
}

fn size_layers(table: &Table) -> String {
    let people = |count: u64| u32::try_from(count).map_or(f64::from(u32::MAX), f64::from);
    let bars: Vec<Bar> =
        table.rows.iter().map(|row| Bar { period: row.period, state: row.state, height: people(row.size) }).collect();
    let axis = Axis::count(bars.iter().map(|bar| bar.height).fold(0.0, f64::max));
    let cohort = words::shortened(&table.query.cohort.to_string(), 28);
    let n = bars.len();
    let mut at: Vec<usize> = if n < 5 { (0..n).collect() } else { vec![0, n / 2, n - 1] };
    at.dedup();
    let labelled: Vec<(usize, String)> = at
        .into_iter()
        .map(|i| {
            let period = bars[i].period;
            let words = match (period.grain(), n) {
                (Grain::Hour, 3..) => period.start().format("%-d %b %H:%M").to_string(),
                (Grain::Day | Grain::Week, n) if n > 180 => period.start().format("%b %Y").to_string(),
                _ => period.short_label(),
            };
            (i, words)
        })
        .collect();
    let below = format!("{} of {cohort}", table.query.grain);
    bar_layers(&SIZES, &axis, &bars, |tick| short_count(tick, axis.top), &labelled, &below)
}

/// A bar for a period, of a height on the chart's axis.
pub(super) struct Bar {
    pub period: Period,
    pub state: State,
    pub height: f64,
}

/// Bars side by side, running ones pale, some of them `labelled`, and a line of words `below` them all.
pub(super) fn bar_layers(
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
    // Few cohorts make no fat bars.
    let half = if n > 150 { 0.5 } else { 0.42_f64.min(right / 24.0) };
    for (class, state, opacity) in [("bars", State::Complete, 0.78), ("bars running", State::InProgress, 0.32)] {
        out.push_str(&canvas.layer(class, "", reach, |plane| {
            let bars = bars.iter().enumerate().filter(|(_, bar)| bar.state == state && bar.height > 0.0);
            bars.map(|(i, bar)| (coord(i) + 0.5, bar.height)).try_for_each(|(x, height)| {
                let style = colour(theme.accent()).mix(opacity).filled();
                plane.draw(&Rectangle::new([(x - half, height), (x + half, 0.0)], style))
            })
        }));
    }
    out.push_str(&canvas.layer("ticks", "", reach, |plane| {
        let style = |h| label(20, theme.mute(), h, VPos::Top);
        write_at(plane, (right / 2.0, 0.0), (0, 54), below.to_owned(), &style(HPos::Center))?;
        labelled.iter().try_for_each(|(i, words)| {
            let (h, x) = match *i {
                i if n < 5 => (HPos::Center, coord(i) + 0.5),
                0 => (HPos::Left, 0.0),
                i if i == n - 1 => (HPos::Right, right),
                i => (HPos::Center, coord(i) + 0.5),
            };
            write_at(plane, (x, 0.0), (0, 14), words.clone(), &style(h))
        })
    }));
    out
}

/// Horizontal rules with their ticks on the left.
fn rules(canvas: &Canvas, axis: &Axis, right: f64, words: impl Fn(f64) -> String) -> String {
    let theme = Theme::Light;
    let reach = (right, axis.top);
    let lines = canvas.layer("rules", "", reach, |plane| {
        axis.ticks.iter().try_for_each(|tick| {
            let ends = vec![(0.0, *tick), (right, *tick)];
            plane.draw(&PathElement::new(ends, stroke(theme.line(), 1.0, 2)))
        })
    });
    let ticks = canvas.layer("ticks", "", reach, |plane| {
        let style = label(20, theme.mute(), HPos::Right, VPos::Center);
        axis.ticks.iter().try_for_each(|tick| write_at(plane, (0.0, *tick), (-14, 0), words(*tick), &style))
    });
    lines + &ticks
}

/// A round count where space is dear, alike for all ticks up to `top`: `1,500`, `20k`, `1.5M`.
pub(super) fn short_count(count: f64, top: f64) -> String {
    match count {
        0.0 => "0".to_owned(),
        c if top >= 1e9 => format!("{}B", c / 1e9),
        c if top >= 1e6 => format!("{}M", c / 1e6),
        c if top >= 1e4 => format!("{}k", c / 1e3),
        c if c >= 1e3 => format!("{:.0},{:03.0}", (c / 1e3).floor(), c % 1e3),
        c => format!("{c}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;
    use crate::reports::retention::{Cell, Measure, Query, Row};

    fn wellformed(svg: &str) {
        // Every opened element is closed, in order: enough XML to trust what plotters and the layers put together.
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name)),
                (false, true) => {}
                (false, false) => open.push(name),
            }
        }
        assert!(open.is_empty());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    fn all(table: &Table) -> [String; 3] {
        let charts = [svg(table), curve(table), sizes(table)];
        charts.iter().for_each(|chart| wellformed(chart));
        charts
    }

    /// A table of any size, with a share that falls from `rate`.
    fn sized(rows: usize, cols: usize, rate: u64) -> Table {
        let mut table = sample::table();
        let last = table.current;
        table.rows = (0..rows)
            .map(|i| {
                let period = last.shift(i64::try_from(i + 1).unwrap() - i64::try_from(rows).unwrap()).unwrap();
                let cells = (0..cols).map(|k| {
                    let back = period.shift(i64::try_from(k).unwrap()).unwrap();
                    let state = if back < last { State::Complete } else { State::InProgress };
                    let retained = 1_000 * rate / 100 / (u64::try_from(k).unwrap() + 1);
                    (back <= last).then_some(Cell { period: back, state, retained, size: 1_000 })
                });
                let state = if period < last { State::Complete } else { State::InProgress };
                Row { period, state, size: 1_000, cells: cells.collect() }
            })
            .collect();
        table.averages = (0..cols).map(|k| table.averages[0].filter(|_| rows > k + 1)).collect();
        table
    }

    #[test]
    fn a_chart_says_what_it_shows_and_has_a_class_for_every_kind_of_mark() {
        let [alone, curve, sizes] = all(&sample::table());
        assert!(alone.contains("<title id=\"retention-chart-title\">signup → active, daily cohorts"), "{alone}");
        assert!(alone.contains(r##"fill="#ffffff""##) && !curve.contains(r##"<rect width="1240""##));
        for class in ["rules", "ticks", "single", "single running", "band", "average", "dots", "labels"] {
            assert!(curve.contains(&format!("<g class=\"{class}\"")), "{class} in {curve}");
        }
        for class in ["rules", "ticks", "bars", "bars running"] {
            assert!(sizes.contains(&format!("<g class=\"{class}\"")), "{class} in {sizes}");
        }
        assert!(curve.contains(">\ndays after signup") || curve.contains(">days after signup"));
        assert!(!alone.contains("style=") && !alone.contains("<style"), "the pages' policy allows no inline style");
    }

    #[test]
    fn any_table_makes_a_chart() {
        for (rows, cols) in [(0, 14), (1, 1), (1, 14), (14, 1), (400, 50), (50, 400)] {
            for rate in [0, 3, 100] {
                all(&sized(rows, cols, rate));
            }
        }
        let nothing = Query { rows: Some(4), ..Query::new("no".parse().unwrap(), "one".parse().unwrap(), Grain::Week) };
        let [alone, ..] = all(&sample::with(nothing));
        assert!(alone.contains("nobody in any cohort"));
    }

    #[test]
    fn many_cohorts_leave_out_lines_and_say_so() {
        let table = sized(400, 14, 80);
        assert!(curve_caption(&table).contains("thin lines are 58 of 400 cohorts"), "{}", curve_caption(&table));
        assert!(curve(&table).len() < 40_000);
        assert_eq!(single_cohorts(&sized(14, 14, 80)).len(), 14);
    }

    #[test]
    fn while_the_window_runs_every_line_is_dashed() {
        let mut query = sample::table().query;
        query.measure = Measure::OnOrAfter;
        query.from = chrono::NaiveDate::from_ymd_opt(2026, 11, 21);
        let chart = curve(&sample::with(query));
        assert!(chart.contains("single running") && !chart.contains("<g class=\"single\""), "{chart}");
        assert!(chart.contains("no complete period yet"));
    }

    #[test]
    fn names_cannot_break_out() {
        let mut table = sample::table();
        table.query.cohort = "\"<script>alert('1')</script>\"".parse().unwrap();
        for chart in all(&table) {
            assert!(!chart.contains("<script"), "{chart}");
        }
    }

    #[test]
    fn counts_are_short() {
        let shown =
            |top: f64, counts: &[f64]| counts.iter().map(|c| short_count(*c, top)).collect::<Vec<_>>().join(" ");
        assert_eq!(shown(2e3, &[0.0, 500.0, 1_000.0, 1_500.0, 2_000.0]), "0 500 1,000 1,500 2,000");
        assert_eq!(shown(2e4, &[0.0, 5e3, 1e4, 1.5e4, 2e4]), "0 5k 10k 15k 20k");
        assert_eq!((shown(1.5e6, &[5e5, 1.5e6]), shown(4e9, &[4e9])), ("0.5M 1.5M".into(), "4B".into()));
    }
}
