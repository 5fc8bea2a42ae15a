//! Charts of a retention table as SVG, drawn by plotters.
//!
//! Each kind of mark is drawn separately and wrapped in a group with a class, so that a page's
//! stylesheet can apply the colours of its theme. The colours in attributes are those of the light
//! theme, for standalone charts. One unit is half a CSS pixel, because plotters
//! rounds positions to whole units.

mod curve;
mod data_table;
mod hits;
mod label_layout;
mod marks;
mod sizes;
mod trend;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{
    Cartesian2d, DrawingArea, DrawingAreaErrorKind, EmptyElement, IntoDrawingArea, IntoFont,
    PathElement, RGBColor, SVGBackend, ShapeStyle, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, TextStyle};

use crate::render::axis::Axis;
use crate::render::chart::label_layout::Spot;
use crate::render::chart::marks::{DRAWN_FONT, addressed, grouped};
use crate::render::colour::{Rgb, Theme};
use crate::render::words;
use crate::reports::retention::Table;

pub(super) use curve::as_of;
pub use curve::{MAX_SINGLE, curve, curve_caption, curve_small, file};
pub use data_table::{DataTable, curve_data_table, sizes_data_table, trend_data_table};
pub(super) use hits::{Columns, Hit, hits};
pub use sizes::sizes;

pub(super) use sizes::{Bar, bar_layers, greatest};

pub use trend::{trend, trend_caption, trend_small};

const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";

type Backend<'a> = SVGBackend<'a>;
type Plane<'a> = DrawingArea<Backend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The canvas of a chart and the position of its plotting area, in units.
pub(super) struct Canvas {
    pub width: u32,
    pub height: u32,
    pub left: i32,
    pub right: i32,
    pub top: i32,
    pub bottom: i32,
}

/// The wide column of a page, and a file.
pub(super) const CURVE: Canvas = Canvas {
    width: 1588,
    height: 464,
    left: 84,
    right: 1544,
    top: 24,
    bottom: 378,
};
/// A chart over the whole width of a page.
pub(super) const WHOLE: Canvas = Canvas {
    width: 2476,
    height: 600,
    left: 84,
    right: 2436,
    top: 24,
    bottom: 514,
};
/// The same, as high as [`CURVE`].
pub(super) const LOW: Canvas = Canvas {
    height: CURVE.height,
    bottom: CURVE.bottom,
    ..WHOLE
};
/// The narrow column of a page.
pub(super) const SIZES: Canvas = Canvas {
    width: 804,
    height: 464,
    left: 84,
    right: 796,
    top: 24,
    bottom: 378,
};
/// The whole width of a phone: higher than [`SIZES`] there.
pub(super) const SNUG: Canvas = Canvas {
    width: 680,
    height: 560,
    left: 72,
    right: 652,
    top: 24,
    bottom: 474,
};

/// The size of a text, in units: 12 pixels.
pub(super) const TEXT: u32 = 24;

impl Canvas {
    /// Returns the position on the canvas of a point of the plotting area.
    fn spot(&self, (right, top): (f64, f64), (x, y): (f64, f64)) -> Spot {
        let width = f64::from(self.right - self.left);
        let height = f64::from(self.bottom - self.top);
        (
            f64::from(self.left) + x / right * width,
            f64::from(self.bottom) - y / top * height,
        )
    }

    /// Returns the point of the plotting area at a position on the canvas.
    fn point(&self, (right, top): (f64, f64), (x, y): Spot) -> (f64, f64) {
        let width = f64::from(self.right - self.left);
        let height = f64::from(self.bottom - self.top);
        (
            (x - f64::from(self.left)) / width * right,
            (f64::from(self.bottom) - y) / height * top,
        )
    }

    /// Draws marks in a group with a class. The marks inherit `attributes`.
    fn layer(
        &self,
        class: &str,
        attributes: &str,
        (right, top): (f64, f64),
        marks: impl FnOnce(&Plane<'_>) -> Drawn,
    ) -> String {
        let mut svg = String::with_capacity(4 << 10);
        {
            let root: DrawingArea<Backend<'_>, Shift> =
                SVGBackend::with_string(&mut svg, (self.width, self.height)).into_drawing_area();
            let plane = root.apply_coord_spec(Cartesian2d::<RangedCoordf64, RangedCoordf64>::new(
                0.0..right,
                0.0..top,
                (self.left..self.right, self.bottom..self.top),
            ));
            marks(&plane)
                .and_then(|()| plane.present())
                .expect("drawing to a string cannot fail");
        }
        // Removes plotters' own <svg …> and </svg>.
        let inner = svg.split_once('\n').map_or("", |(_, rest)| rest);
        let inner = inner
            .trim_end()
            .strip_suffix("</svg>")
            .unwrap_or(inner)
            .trim_end();
        if inner.is_empty() {
            return String::new();
        }
        grouped(class, attributes, inner)
    }
}

/// The maximum length of a segment in the name of an axis.
const MAX_NAMED: usize = 24;

/// Returns the name of an axis: `after signup`, or `after the first` if the segment is too long for
/// it.
fn named(before: &str, segment: &str, otherwise: &str) -> String {
    let what = if segment.chars().count() > MAX_NAMED {
        otherwise
    } else {
        segment
    };
    format!("{before} {what}")
}

/// Returns the message of a chart without a line.
fn nothing_yet(table: &Table) -> String {
    match () {
        () if !table.is_recorded() => "no data".to_owned(),
        () if table.is_empty() => "no people in any cohort".to_owned(),
        () => words::none_complete("period", table.data_ends),
    }
}

/// Turns a drawing into a part of a page: without a namespace and fonts, which the page provides.
pub fn within_page(svg: &str) -> String {
    svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1)
        .replacen(&format!(" font-family=\"{FONT}\""), "", 1)
}

pub(super) fn opening(
    id: &str,
    class: &str,
    (width, height): (u32, u32),
    title: &str,
    text: &str,
) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{class}\" viewBox=\"0 0 {width} {height}\" font-family=\"{FONT}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-desc\"><title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
        escaped(title),
        escaped(text)
    )
}

/// Puts a title and lines of text above a chart of the size of [`CURVE`], on white.
pub(super) fn titled(svg: &str, title: &str, lines: &[String]) -> String {
    let head = 56 + 36 * u32::try_from(lines.len()).expect("a chart has few lines of text") + 16;
    let (width, inner) = (CURVE.width, CURVE.height);
    let height = head + inner + 16;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"{FONT}\">\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>"
    );
    let mut write = |y: u32, size: u32, weight: u32, fill: Rgb, text: &str| {
        out.push_str(&format!(
            "<text x=\"40\" y=\"{y}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"{fill}\">{}</text>",
            escaped(text)
        ));
    };
    let title = words::shortened(title, 72);
    write(60, 36, 700, Theme::Light.ink(), &title);
    for (y, line) in (98..).step_by(34).zip(lines) {
        let line = words::shortened(line, 130);
        write(y, TEXT, 400, Theme::Light.mute(), &line);
    }
    let start = format!("<svg x=\"0\" y=\"{head}\" width=\"{width}\" height=\"{inner}\" ");
    out.push_str(&svg.replacen("<svg ", &start, 1));
    out.push_str("</svg>\n");
    out
}

/// Replaces the two characters that event names may contain and XML forbids. With one of them no
/// program would open the file.
fn in_xml(text: &str) -> String {
    text.replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}")
}

pub(super) fn escaped(text: &str) -> String {
    in_xml(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Converts a column, row number or tick to a coordinate.
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
    TextStyle {
        font,
        color: colour(rgb).to_backend_color(),
        pos: Pos::new(h, v),
    }
}

/// Writes a text at an offset from a point of the plotting area.
fn write_at(
    plane: &Plane<'_>,
    point: (f64, f64),
    away: (i32, i32),
    text: String,
    style: &TextStyle<'_>,
) -> Drawn {
    plane.draw(&(EmptyElement::at(point) + Text::new(in_xml(&text), away, style.clone())))
}

/// Returns the unbroken stretches of a list with gaps.
fn stretches<T>(list: impl IntoIterator<Item = Option<T>>) -> Vec<Vec<(f64, T)>> {
    let mut all = Vec::new();
    let mut open = Vec::new();
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

/// Draws horizontal rules with their tick labels on the left.
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
        let style = label(TEXT, theme.mute(), HPos::Right, VPos::Center);
        axis.ticks
            .iter()
            .try_for_each(|tick| write_at(plane, (0.0, *tick), (-14, 0), words(*tick), &style))
    });
    lines + &*ticks
}

/// Formats a round count for narrow places, in one style for all ticks up to `top`: `1,500`, `20k`,
/// `1.5M`.
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
    use super::curve::single_cohorts;
    use super::*;
    use crate::calendar::Grain;
    use crate::reports::retention::{Benchmarks, Cell, Measure, Number, Query, Row, State};
    use crate::reports::sample;

    fn wellformed(svg: &str) {
        // Every opened element is closed, in order. This is enough XML to trust the output of
        // plotters and the layers.
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name)),
                (false, true) => {}
                (false, false) => open.push(name),
            }
        }
        assert!(open.is_empty());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    fn all(table: &Table) -> [String; 4] {
        let none = Benchmarks::default();
        let charts = [
            file(table, &none),
            curve(table, &none),
            sizes(table),
            trend(table, 1),
        ];
        charts.iter().for_each(|chart| wellformed(chart));
        wellformed(&curve_small(table, &none));
        let benchmarks = Benchmarks {
            goal: Some(40),
            previous: Some(table.clone()),
        };
        wellformed(&curve(table, &benchmarks));
        wellformed(&trend_small(table, 1));
        charts
    }

    /// Returns the same table of a hundred times as many people: rates of few are drawn differently.
    fn hundredfold(mut table: Table) -> Table {
        for row in &mut table.rows {
            row.size = row.size.map(|size| size * 100);
            for cell in &mut row.cells {
                if let Cell::Number(number) = cell {
                    number.size *= 100;
                    number.retained *= 100;
                }
            }
        }
        for average in table.averages.iter_mut().flatten() {
            average.size *= 100;
            average.retained *= 100;
        }
        table
    }

    /// Returns a table of any size, with a share that falls from `rate`.
    fn sized(rows: usize, cols: usize, rate: u64) -> Table {
        let mut table = sample::table();
        let last = table.current;
        table.rows = (0..rows)
            .map(|i| {
                let period = last
                    .shift(i64::try_from(i + 1).unwrap() - i64::try_from(rows).unwrap())
                    .unwrap();
                let cells = (0..cols).map(|k| {
                    let back = period.shift(i64::try_from(k).unwrap()).unwrap();
                    let state = if back < last {
                        State::Complete
                    } else {
                        State::InProgress
                    };
                    let retained = 1_000 * rate / 100 / (u64::try_from(k).unwrap() + 1);
                    let number = Number {
                        period: back,
                        state,
                        retained,
                        size: 1_000,
                    };
                    if back <= last {
                        Cell::Number(number)
                    } else {
                        Cell::Blank
                    }
                });
                let state = if period < last {
                    State::Complete
                } else {
                    State::InProgress
                };
                Row {
                    period,
                    state,
                    is_first_recorded: false,
                    size: Some(1_000),
                    cells: cells.collect(),
                }
            })
            .collect();
        table.averages = (0..cols)
            .map(|k| table.averages[0].filter(|_| rows > k + 1))
            .collect();
        table
    }

    #[test]
    fn a_chart_says_what_it_shows_and_has_a_class_for_every_kind_of_mark() {
        let [alone, curve, sizes, trend] = all(&hundredfold(sample::table()));
        assert!(
            alone.contains("<title id=\"retention-chart-title\">signup → active, daily cohorts"),
            "{alone}"
        );
        assert!(
            alone.contains(r##"fill="#ffffff""##) && !curve.contains(r##"<rect width="1588""##)
        );
        for class in [
            "rules", "ticks", "single", "band", "average", "dots", "labels",
        ] {
            assert!(
                curve.contains(&format!("<g class=\"{class}\"")),
                "{class} in {curve}"
            );
        }
        for class in ["rules", "ticks", "bars", "bars running"] {
            assert!(
                sizes.contains(&format!("<g class=\"{class}\"")),
                "{class} in {sizes}"
            );
        }
        for class in [
            "rules",
            "ticks",
            "whiskers",
            "mean",
            "average",
            "dots full",
            "labels",
        ] {
            assert!(
                trend.contains(&format!("<g class=\"{class}\"")),
                "{class} in {trend}"
            );
        }
        assert!(curve.contains(">\ndays after signup") || curve.contains(">days after signup"));
        assert!(
            !alone.contains("style=") && !alone.contains("<style"),
            "the pages' policy allows no inline style"
        );
    }

    #[test]
    fn any_table_makes_a_chart() {
        for (rows, cols) in [(0, 14), (1, 1), (1, 14), (14, 1), (400, 50), (50, 400)] {
            for rate in [0, 3, 100] {
                all(&sized(rows, cols, rate));
            }
        }
        let nothing = Query {
            rows: Some(4),
            ..Query::new("no".parse().unwrap(), "one".parse().unwrap(), Grain::WEEK)
        };
        let [alone, _, sizes, _] = all(&sample::with(nothing));
        assert!(alone.contains("no people in any cohort"), "{alone}");
        assert!(
            sizes.contains("no people in any cohort") && sizes.matches("<text").count() == 1,
            "{sizes}"
        );
    }

    #[test]
    fn many_cohorts_leave_out_lines_and_say_so() {
        let table = sized(400, 14, 80);
        assert!(
            curve_caption(&table, &Benchmarks::default())
                .contains("thin lines are 58 of 400 cohorts"),
            "{}",
            curve_caption(&table, &Benchmarks::default())
        );
        assert!(curve(&table, &Benchmarks::default()).len() < 40_000);
        assert_eq!(single_cohorts(&sized(14, 14, 80)).len(), 14);
    }

    #[test]
    fn marks_say_whose_they_are() {
        let table = sized(31, 13, 80);
        let ats = |svg: &str, mark: &str| -> Vec<String> {
            let start = format!("<{mark} data-at=\"");
            // Areas for the pointer come last, and have all of them.
            let marks = svg.split("<g class=\"hits\"").next().unwrap();
            marks
                .split(&start)
                .skip(1)
                .map(|mark| mark.split('"').next().unwrap().to_owned())
                .collect()
        };
        let cohorts: Vec<String> = table
            .rows
            .iter()
            .map(|row| row.period.to_string())
            .collect();
        let mut lines = ats(&curve(&table, &Benchmarks::default()), "polyline");
        // Cells in progress are not part of any line.
        lines.sort_unstable();
        assert_eq!(lines, cohorts[..29]);
        assert_eq!(ats(&sizes(&table), "rect"), cohorts);
        assert_eq!(ats(&trend(&table, 12), "circle"), cohorts[..19]);
        // Each line still starts in its cohort's first column, at 100 % or less.
        assert!(
            curve(&table, &Benchmarks::default()).len() < 20_000,
            "{}",
            curve(&table, &Benchmarks::default()).len()
        );
    }

    #[test]
    fn a_trend_has_gaps_and_few_labels_however_long() {
        for n in [1, 2, 5, 14, 61, 400] {
            for rate in [0, 3, 100] {
                let mut table = sized(n, 3, rate);
                if n > 12 {
                    (table.rows[n / 2].cells[1], table.rows[n / 2].size) = (Cell::Blank, Some(0));
                }
                for column in [0, 1, 2, 3, 999] {
                    for svg in [trend(&table, column), trend_small(&table, column)] {
                        wellformed(&svg);
                        assert!(!svg.contains("style="), "{svg}");
                        assert!(svg.matches("<text").count() <= 6 + 13 + 5, "{svg}");
                        assert!(svg.len() < 96_000, "{} bytes for {n}", svg.len());
                    }
                    trend_caption(&table, column);
                }
                let svg = trend(&table, 1);
                let lines = svg
                    .split("<g class=\"average\"")
                    .nth(1)
                    .map_or("", |g| g.split("</g>").next().unwrap());
                assert_eq!(
                    lines.matches("points=").count(),
                    if n > 12 { 2 } else { usize::from(n > 3) },
                    "{n}"
                );
                assert_eq!(svg.contains("class=\"band\""), n > 60);
                assert_eq!(trend_small(&table, 1).contains("class=\"band\""), n > 24);
            }
        }
        let empty = trend(&sized(4, 3, 50), 9);
        assert!(
            empty.contains("no complete period yet") && !empty.contains("<circle"),
            "{empty}"
        );
    }

    /// Returns the texts of a group with a class and their positions.
    fn texts(svg: &str, class: &str) -> Vec<(String, f64, f64)> {
        let start = format!("<g class=\"{class}\"");
        let groups = svg
            .split(&start)
            .skip(1)
            .map(|g| g.split("</g>").next().unwrap());
        let attribute = |mark: &str, name: &str| -> f64 {
            mark.split(&format!(" {name}=\""))
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .parse()
                .unwrap()
        };
        let marks = groups.flat_map(|group| group.split("<text").skip(1));
        marks
            .map(|mark| {
                let text = mark
                    .split('>')
                    .nth(1)
                    .unwrap()
                    .split('<')
                    .next()
                    .unwrap()
                    .trim();
                (text.to_owned(), attribute(mark, "x"), attribute(mark, "y"))
            })
            .collect()
    }

    #[test]
    fn figures_stand_over_their_own_points_or_are_led_there() {
        // With the maximum number of columns there is no room beside a point.
        let mut table = sized(40, 30, 90);
        for (k, average) in table.averages.iter_mut().enumerate() {
            *average = average.map(|a| crate::reports::retention::Average {
                rate: 0.9 / (coord(k) + 1.0),
                size: 1_000,
                interval: None,
                ..a
            });
        }
        let svg = curve(&table, &Benchmarks::default());
        let step = 1_460.0 / 29.0;
        let labels = texts(&svg, "labels");
        assert_eq!(
            labels.iter().map(|(text, ..)| &**text).collect::<Vec<_>>(),
            ["45.0%", "11.2%"]
        );
        assert!((labels[1].1 - 84.0 - 7.0 * step).abs() < 1.0, "{labels:?}");
        assert_eq!(svg.matches("<g class=\"leader\"").count(), 1, "{svg}");
        // With few columns the first figure is beside its point and needs no leader line.
        table.averages.truncate(8);
        assert!(
            !curve(&table, &Benchmarks::default()).contains("leader")
                && texts(&curve(&table, &Benchmarks::default()), "labels")[0].1
                    > 84.0 + 1_460.0 / 7.0
        );
    }

    #[test]
    fn the_newest_number_keeps_off_the_average() {
        for rate in [20, 30, 36, 38, 40, 42, 44, 50, 60] {
            let mut table = sized(14, 3, 80);
            let average =
                table.averages[1].map(|a| crate::reports::retention::Average { rate: 0.4, ..a });
            table.averages[1] = average;
            for row in &mut table.rows {
                if let Cell::Number(cell) = &mut row.cells[1] {
                    cell.retained = rate * 10;
                }
            }
            for svg in [trend(&table, 1), trend_small(&table, 1)] {
                let rule = svg
                    .split("<g class=\"mean\"")
                    .nth(1)
                    .unwrap()
                    .split("points=\"")
                    .nth(1)
                    .unwrap();
                let rule: f64 = rule.split([',', ' ']).nth(1).unwrap().parse().unwrap();
                let label = texts(&svg, "labels").remove(0);
                assert!(
                    label.2 - 26.0 > rule || label.2 < rule,
                    "{rate}: {label:?} on {rule}"
                );
                assert!(svg.contains("average"));
            }
        }
    }

    #[test]
    fn long_segments_name_no_axis() {
        let mut table = sample::table();
        table.query.cohort = "signup & (platform:ios@ever | platform:android@ever)"
            .parse()
            .unwrap();
        let [_, curve, sizes, trend] = all(&table);
        assert!(
            curve.contains("days after the first") && sizes.contains("day of the cohort"),
            "{curve} {sizes}"
        );
        assert!(trend.contains("day of the cohort"));
    }

    #[test]
    fn a_trend_is_drawn_as_it_was() {
        let mut table = hundredfold(sample::table());
        insta::assert_snapshot!(trend(&table, 2).replace("><", ">\n<"), @r##"
        <svg xmlns="http://www.w3.org/2000/svg" class="chart trend roomy" viewBox="0 0 1920 500" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif" role="img" aria-labelledby="trend-title trend-desc">
        <title id="trend-title">Return on day 2, by cohort</title>
        <desc id="trend-desc">50.0% for Fri 20 Nov 2026. The average is 50.0%.</desc>
        <g class="rules" fill="none" stroke="#E2E8EE" stroke-width="2">
        <path d="M104,408 1692,408M104,287 1692,287M104,166 1692,166M104,44 1692,44"/>
        </g>
        <g class="ticks" fill="#566778" font-size="24" text-anchor="end">
        <text x="90" y="408" dy="0.5ex">0%</text>
        <text x="90" y="287" dy="0.5ex">20%</text>
        <text x="90" y="166" dy="0.5ex">40%</text>
        <text x="90" y="44" dy="0.5ex">60%</text>
        </g>
        <g class="ticks" fill="#566778" font-size="20" text-anchor="middle">
        <text x="302" y="422" dy="0.76em">20 Nov</text>
        <text x="699" y="422" dy="0.76em">21 Nov</text>
        <text x="1096" y="422" dy="0.76em">22 Nov</text>
        <text x="1493" y="422" dy="0.76em">23 Nov</text>
        <text x="898" y="462" dy="0.76em">day of signup</text>
        </g>
        <g class="whiskers" fill="none" stroke="#185A96" stroke-width="3" stroke-opacity="0.55">
        <path d="M302,135 302,76"/>
        </g>
        <g class="mean" stroke-dasharray="10 8" fill="none" stroke="#566778" stroke-width="2">
        <polyline points="104,105 1692,105"/>
        </g>
        <g class="ticks" fill="#566778" font-size="20" text-anchor="start">
        <text x="1706" y="105" dy="0.5ex">average 50.0%</text>
        </g>
        <g class="dots full" fill="#185a96" stroke="#185A96" stroke-width="4">
        <circle data-at="2026-11-20" cx="302" cy="105" r="6"/>
        </g>
        <g class="dots running" fill="#ffffff" stroke="#185A96" stroke-width="3" stroke-opacity="0.5">
        <circle data-at="2026-11-21" cx="699" cy="408" r="5"/>
        </g>
        <g class="labels" font-weight="700" paint-order="stroke" stroke="#ffffff" stroke-width="6" stroke-linejoin="round" fill="#185A96" font-size="24" text-anchor="middle">
        <text x="302" y="69" dy="-0.5ex">50.0%</text>
        </g>
        <g class="hits" fill="none" pointer-events="all">
        <rect data-at="2026-11-20" data-x="302" x="104" y="44" width="397" height="364">
        <title>Fri 20 Nov 2026 · 50.0% (45.1–54.9) · 200 of 400</title>
        </rect>
        <rect data-at="2026-11-21" data-x="700" x="501" y="44" width="397" height="364">
        <title>Sat 21 Nov 2026 · 0.0% (0.0–1.9) · 0 of 200 · still in progress</title>
        </rect>
        <rect data-at="2026-11-22" data-x="1096" x="898" y="44" width="397" height="364">
        <title>Sun 22 Nov 2026 · no number</title>
        </rect>
        <rect data-at="2026-11-23" data-x="1494" x="1295" y="44" width="397" height="364">
        <title>Mon 23 Nov 2026 · no number</title>
        </rect>
        </g>
        </svg>
        "##);
        assert_eq!(
            trend_caption(&table, 2),
            "each cohort's share with its 95% interval; dashed rule: weighted average; hollow while in progress"
        );
        table.query.averaging = crate::reports::retention::Averaging::Simple;
        assert_eq!(
            trend_caption(&table, 1),
            "each cohort's share with its 95% interval; dashed rule: simple average"
        );
    }

    #[test]
    fn while_the_window_runs_there_is_no_line() {
        let mut query = sample::table().query;
        query.measure = Measure::OnOrAfter;
        query.from = chrono::NaiveDate::from_ymd_opt(2026, 11, 21);
        let chart = curve(&sample::with(query), &Benchmarks::default());
        assert!(
            !chart.contains("<g class=\"single") && !chart.contains("<g class=\"average"),
            "{chart}"
        );
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
        let shown = |top: f64, counts: &[f64]| {
            counts
                .iter()
                .map(|c| short_count(*c, top))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            shown(2e3, &[0.0, 500.0, 1_000.0, 1_500.0, 2_000.0]),
            "0 500 1,000 1,500 2,000"
        );
        assert_eq!(shown(2e4, &[0.0, 5e3, 1e4, 1.5e4, 2e4]), "0 5k 10k 15k 20k");
        assert_eq!(
            (shown(1.5e6, &[5e5, 1.5e6]), shown(4e9, &[4e9])),
            ("0.5M 1.5M".into(), "4B".into())
        );
    }
}
