//! Draws charts of consecutive columns as SVG: bars from any value to any other, and lines. Classes
//! and colours are as in [`chart`](crate::render::chart).

use std::fmt::Write as _;

use crate::render::chart::{Canvas, Columns, Hit, TEXT, escaped, hits, opening};
use crate::render::colour::{Rgb, Theme};

/// The colours of groups in the light theme, in the order in which groups get them. Classes `c1` to
/// `c6` replace them on pages. Neighbours differ for colour-blind readers and in print.
pub(super) const COLOURS: [&str; 6] = [
    "#185a96", "#d9730d", "#2e2b00", "#a070ff", "#17a3a3", "#b3121d",
];

/// The dashes of the lines of groups, which tell them apart without colours.
pub(super) const DASHES: [&str; 6] = ["", "14 6", "4 6", "14 6 4 6", "24 8", "8 12"];

/// A chart while it is drawn.
pub(super) struct Plot<'c> {
    canvas: &'c Canvas,
    low: f64,
    high: f64,
    columns: usize,
    /// The classes of the colours of the rows that describe a column, in their order.
    pub keys: Vec<&'static str>,
    out: String,
}

/// A bar of one column, from one value to another.
pub(super) struct Column {
    pub column: usize,
    pub from: f64,
    pub to: f64,
}

/// A text at a place, and where it is anchored: `start`, `middle` or `end`.
pub(super) struct Label {
    pub x: f64,
    pub y: f64,
    pub anchor: &'static str,
    pub text: String,
}

fn hex(Rgb(r, g, b): Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// A number of users as a height.
pub(super) fn height(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

fn float(index: usize) -> f64 {
    u32::try_from(index).map_or(f64::MAX, f64::from)
}

impl<'c> Plot<'c> {
    /// Begins a chart of this many columns, with values from `low` to `high`.
    pub fn new(canvas: &'c Canvas, (low, high): (f64, f64), columns: usize) -> Self {
        assert!(low <= 0.0 && high > 0.0, "the axis contains 0");
        Plot {
            canvas,
            low,
            high,
            columns: columns.max(1),
            keys: Vec::new(),
            out: String::with_capacity(8 << 10),
        }
    }

    /// The width of a column.
    pub fn width(&self) -> f64 {
        f64::from(self.canvas.right - self.canvas.left) / float(self.columns)
    }

    /// The middle of a column.
    pub fn middle(&self, column: usize) -> f64 {
        f64::from(self.canvas.left) + (float(column) + 0.5) * self.width()
    }

    /// The vertical position of a value. Greater values than the axis has are at its end.
    pub fn y(&self, value: f64) -> f64 {
        let value = value.min(self.high);
        let height = f64::from(self.canvas.bottom - self.canvas.top);
        f64::from(self.canvas.bottom) - (value - self.low) / (self.high - self.low) * height
    }

    /// Draws horizontal rules, with their words on the left.
    pub fn rules(&mut self, ticks: &[f64], words: impl Fn(f64) -> String) {
        let (left, right) = (self.canvas.left, self.canvas.right);
        let line = hex(Theme::Light.line());
        let _ = write!(
            self.out,
            r#"<g class="rules" stroke="{line}" stroke-width="2" fill="none"><path d=""#
        );
        for tick in ticks {
            let y = self.y(*tick);
            let _ = write!(self.out, "M{left} {y:.1}H{right}");
        }
        self.out.push_str("\"/></g>");
        let labels = ticks.iter().map(|tick| Label {
            x: f64::from(left - 14),
            y: self.y(*tick) + 8.0,
            anchor: "end",
            text: words(*tick),
        });
        let labels: Vec<Label> = labels.collect();
        self.texts("ticks", labels);
    }

    /// Writes muted texts.
    pub fn texts(&mut self, class: &str, labels: impl IntoIterator<Item = Label>) {
        let fill = hex(Theme::Light.mute());
        let _ = write!(
            self.out,
            r#"<g class="{class}" fill="{fill}" font-size="{TEXT}">"#
        );
        for Label { x, y, anchor, text } in labels {
            let text = escaped(&text);
            let _ = write!(
                self.out,
                r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
            );
        }
        self.out.push_str("</g>");
    }

    /// Names columns, and everything below the axis.
    pub fn below(&mut self, named: &[(usize, String)], what: &str) {
        let bottom = f64::from(self.canvas.bottom);
        let (left, right) = (f64::from(self.canvas.left), f64::from(self.canvas.right));
        let mut labels: Vec<Label> = Vec::new();
        for (column, text) in named {
            // Long labels at the ends stay within the chart.
            let anchor = match *column {
                _ if self.columns < 8 || text.chars().count() < 4 => "middle",
                0 => "start",
                last if last + 1 == self.columns => "end",
                _ => "middle",
            };
            let x = match anchor {
                "start" => left,
                "end" => right,
                _ => self.middle(*column),
            };
            labels.push(Label {
                x,
                y: bottom + 36.0,
                anchor,
                text: text.clone(),
            });
        }
        labels.push(Label {
            x: f64::midpoint(left, right),
            y: bottom + 78.0,
            anchor: "middle",
            text: what.to_owned(),
        });
        self.texts("ticks", labels);
    }

    /// Draws bars of the colour with this number, from 1. `look` is a class beside that of the
    /// colour, and an opacity.
    pub fn coloured_bars(
        &mut self,
        colour: usize,
        (look, opacity): (&str, &str),
        bars: impl IntoIterator<Item = Column>,
    ) {
        let fill = COLOURS[colour - 1];
        self.bars(
            &format!("c{colour}{look}"),
            &format!(r#"fill="{fill}" fill-opacity="{opacity}""#),
            bars,
        );
    }

    /// Draws bars. `attributes` are those of all of them.
    pub fn bars(&mut self, class: &str, attributes: &str, bars: impl IntoIterator<Item = Column>) {
        let wide = (self.width() * 0.84).min(110.0);
        let _ = write!(self.out, r#"<g class="{class}" {attributes}>"#);
        for Column { column, from, to } in bars {
            let x = self.middle(column) - wide / 2.0;
            let (top, bottom) = (self.y(from.max(to)), self.y(from.min(to)));
            // Bars in a stack are a little apart.
            let height = (bottom - top - 1.0).max(1.0);
            let _ = write!(
                self.out,
                r#"<rect x="{x:.1}" y="{top:.1}" width="{wide:.1}" height="{height:.1}"/>"#
            );
        }
        self.out.push_str("</g>");
    }

    /// Draws a line through values at the middles of columns. It is broken where there are none.
    pub fn line(&mut self, class: &str, attributes: &str, values: &[Option<f64>]) {
        let _ = write!(
            self.out,
            r#"<g class="{class}" fill="none" stroke-width="4" stroke-linejoin="round" {attributes}><path d=""#
        );
        let mut is_open = false;
        for (column, value) in values.iter().enumerate() {
            if let Some(value) = value {
                let (x, y) = (self.middle(column), self.y(*value));
                let step = if is_open { 'L' } else { 'M' };
                let _ = write!(self.out, "{step}{x:.1} {y:.1}");
                let next = values.get(column + 1).copied().flatten();
                if !is_open && next.is_none() {
                    // A single point is a dash.
                    let _ = write!(self.out, "h4");
                }
            }
            is_open = value.is_some();
        }
        self.out.push_str("\"/></g>");
    }

    /// Draws a line over the whole width at a value that was chosen, with its words.
    pub fn goal(&mut self, value: f64, text: &str) {
        let (left, right) = (self.canvas.left, self.canvas.right);
        let y = self.y(value);
        let ink = hex(Theme::Light.ink());
        let _ = write!(
            self.out,
            r#"<g class="goal" fill="none" stroke="{ink}" stroke-opacity="0.7" stroke-width="2" stroke-dasharray="14 8"><path d="M{left} {y:.1}H{right}"/></g>"#
        );
        let label = Label {
            x: f64::from(right),
            y: y - 8.0,
            anchor: "end",
            text: text.to_owned(),
        };
        self.texts("ticks", [label]);
    }

    /// Draws the keys of colours above the chart. Each is the number of a
    /// colour, and a name.
    pub fn legend(&mut self, keys: &[(usize, &str)]) {
        let width = |name: &str| 62.0 + float(name.chars().count()) * 14.0;
        let total: f64 = keys.iter().map(|(_, name)| width(name)).sum();
        let left = f64::from(self.canvas.left);
        // A narrow chart has no room to the right of the axis for all names.
        let mut x = left.min((f64::from(self.canvas.width) - total).max(0.0));
        let mut labels = Vec::new();
        for (colour, name) in keys {
            let fill = COLOURS[colour - 1];
            let _ = write!(
                self.out,
                r#"<g class="c{colour}" fill="{fill}"><rect x="{x:.1}" y="10" width="20" height="20" rx="4"/></g>"#
            );
            labels.push(Label {
                x: x + 30.0,
                y: 28.0,
                anchor: "start",
                text: (*name).to_owned(),
            });
            x += width(name);
        }
        self.texts("ticks", labels);
    }

    /// Describes each column for the pointer.
    pub fn hits(&mut self, all: impl IntoIterator<Item = Hit>) {
        self.out
            .push_str(&hits(self.canvas, Columns::Bars, &self.keys, all));
    }

    /// Returns the finished chart.
    pub fn finish(self, id: &str, class: &str, title: &str, text: &str) -> String {
        let size = (self.canvas.width, self.canvas.height);
        opening(id, class, size, title, text) + &self.out + "</svg>"
    }
}
