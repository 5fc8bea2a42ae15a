//! The curves of several groups as a chart.

use crate::render::axis::Axis;
use crate::render::chart::{CURVE, Canvas, Hit, LOW, SNUG, as_of, titled};
use crate::render::drawing::Drawing;
use crate::render::groups::short_name;
use crate::render::plot::{COLOURS, DASHES, Label, Plot};
use crate::render::{groups, words};
use crate::reports::comparison::{Compared, Group, GroupKind};
use crate::reports::retention::Average;

/// The longest name at the end of a line, in characters.
const NAMED: usize = 14;

/// The most lines with a colour of their own.
const LINES: usize = COLOURS.len();

/// The grey of the groups that hold what the others leave over.
const GREY: &str = "#7d8b99";

/// How a group is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The class of its colour: `c1` to `c6`, or `c0` for what the others leave over.
    pub class: &'static str,
    stroke: &'static str,
    dash: &'static str,
}

impl Look {
    /// The attributes of a line.
    pub(super) fn attributes(&self) -> String {
        let stroke = self.stroke;
        match self.dash {
            "" => format!(r#"stroke="{stroke}""#),
            dash => format!(r#"stroke="{stroke}" stroke-dasharray="{dash}""#),
        }
    }

    /// The dashes of a key: as long as fit into one.
    pub fn short_dash(&self) -> &'static str {
        match self.dash {
            "" => "",
            "14 6" => "7 3",
            "4 6" => "2 3",
            "14 6 4 6" => "7 3 2 3",
            "24 8" => "12 4",
            _ => "4 6",
        }
    }
}

/// Returns how each group is drawn; `None` for those that have no line. The rest is drawn too as
/// long as there are at most six lines.
pub fn looks<'a>(groups: impl IntoIterator<Item = &'a GroupKind>) -> Vec<Option<Look>> {
    const CLASSES: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];
    let (mut coloured, mut lines) = (0, 0);
    let look = |group: &GroupKind| {
        let look = if group.is_rest() {
            Look {
                class: "c0",
                stroke: GREY,
                dash: match group {
                    GroupKind::None => "4 6",
                    _ => "14 6 4 6",
                },
            }
        } else {
            let at = coloured;
            coloured += 1;
            Look {
                class: CLASSES.get(at)?,
                stroke: COLOURS[at],
                dash: DASHES[at],
            }
        };
        lines += 1;
        (lines <= LINES).then_some(look)
    };
    groups.into_iter().map(look).collect()
}

/// Returns how each group of a comparison is drawn.
pub fn looks_of(compared: &Compared) -> Vec<Option<Look>> {
    looks(compared.groups.iter().map(|group| &group.kind))
}

/// Draws the curves as a standalone file.
pub fn file(compared: &Compared, goal: Option<u32>) -> String {
    let svg = draw(compared, goal, &CURVE, "comparison-chart", "chart");
    let table = &compared.groups[0].table;
    let mut facts: Vec<String> = words::range(table).into_iter().collect();
    facts.push(words::people(compared.people));
    facts.push(as_of(table));
    facts.extend(words::data_ends(table));
    titled(&svg, &compared.title(), &[facts.join(" · ")])
}

/// Draws the curves for a page.
pub fn drawing(compared: &Compared, goal: Option<u32>) -> Drawing {
    let drawn = looks_of(compared).iter().flatten().count();
    let some = if drawn < compared.groups.len() {
        format!("; {drawn} of {} groups", compared.groups.len())
    } else {
        String::new()
    };
    Drawing {
        caption: "Retention by group".to_owned(),
        detail: format!(
            "{} of complete {}s{}{some}",
            compared.query.averaging.words(),
            compared.query.grain,
            match first_drawn(compared) {
                0 => String::new(),
                from => format!("; from {} {from}", compared.query.grain),
            }
        ),
        svg: draw(compared, goal, &LOW, "curves", "chart whole roomy"),
        small: draw(compared, goal, &SNUG, "curves-small", "chart sizes snug"),
        is_wide: true,
    }
}

/// Returns the first column that is drawn: 1 where the cohort's own period would leave the others
/// flat, which it often does.
fn first_drawn(compared: &Compared) -> usize {
    usize::from(compared.query.cols() > 2 && compared.query.brackets.is_none())
}

fn draw(compared: &Compared, goal: Option<u32>, canvas: &Canvas, id: &str, class: &str) -> String {
    // Names need room at the ends of the lines.
    let canvas = Canvas {
        right: canvas.right - 230,
        ..*canvas
    };
    let looks = looks_of(compared);
    let lines: Vec<(&Group, Look, Vec<Option<Average>>)> = compared
        .groups
        .iter()
        .zip(looks)
        .filter_map(|(group, look)| Some((group, look?, group.table.drawn().collect())))
        .collect();
    let columns = compared.query.cols() as usize;
    let from = first_drawn(compared);
    let shown = || {
        lines
            .iter()
            .flat_map(|(_, _, averages)| averages[from..].iter().flatten())
    };
    let goal = goal.map(f64::from);
    let rates = shown().map(|average| average.rate);
    let rates = rates.chain(goal.map(|goal| goal / 100.0));
    let highest = rates.fold(0.0, f64::max);
    let axis = Axis::percent(if highest > 0.0 { highest } else { 1.0 });
    let mut plot = Plot::new(&canvas, (0.0, axis.top), columns - from);
    plot.rules(&axis.ticks, |tick| format!("{tick:.0$}%", axis.decimals));
    if let Some(goal) = goal {
        plot.goal(goal, &format!("goal {goal}%"));
    }
    plot.keys = looks_of(compared)
        .iter()
        .map(|look| look.map_or("", |look| look.class))
        .collect();
    let mut labels = Vec::new();
    for (group, look, averages) in &lines {
        let values: Vec<Option<f64>> = averages[from..]
            .iter()
            .map(|average| Some(average.as_ref()?.rate * 100.0))
            .collect();
        plot.line(&format!("line {}", look.class), &look.attributes(), &values);
        let last = values
            .iter()
            .enumerate()
            .rev()
            .find_map(|(at, value)| Some((at, (*value)?)));
        let Some((at, value)) = last else {
            continue;
        };
        let name = words::shortened(&short_name(&compared.grouping, &group.kind), NAMED);
        labels.push(Label {
            x: plot.middle(at) + 12.0,
            y: plot.y(value) + 8.0,
            anchor: "start",
            text: {
                let average = averages[at + from].expect("the line has a value here");
                format!("{name} {}", words::rate_of(average.rate, average.size))
            },
        });
    }
    moved_apart(&mut labels);
    plot.texts("labels numbers", labels);
    let room = if canvas.width <= SNUG.width { 7 } else { 14 };
    let step = (columns - from).div_ceil(room).max(1);
    let named: Vec<(usize, String)> = (from..columns)
        .step_by(step)
        .map(|place| {
            let column = compared
                .query
                .column(place)
                .expect("it is a column of the table");
            (place - from, column.label())
        })
        .collect();
    let grain = compared.query.grain;
    let table = &compared.groups[0].table;
    let what = words::shortened(&compared.query.cohort.phrase(&table.labels, grain), 24);
    let below = f64::from(canvas.bottom);
    let mut words: Vec<Label> = named
        .into_iter()
        .map(|(column, text)| Label {
            x: plot.middle(column),
            y: below + 36.0,
            anchor: "middle",
            text,
        })
        .collect();
    words.push(Label {
        x: f64::midpoint(f64::from(canvas.left), f64::from(canvas.right)),
        y: below + 78.0,
        anchor: "middle",
        text: format!("{grain}s after {what}"),
    });
    plot.texts("ticks", words);
    plot.hits((from..columns).map(|place| Hit {
        at: place.to_string(),
        text: describe(compared, place),
    }));
    let ends = lines.iter().filter_map(|(group, _, averages)| {
        let last = averages.iter().rev().flatten().next()?;
        Some(format!(
            "{}: {}",
            groups::name(&group.kind),
            words::percent(last.rate)
        ))
    });
    let text = format!(
        "At the end of each line: {}.",
        ends.collect::<Vec<_>>().join("; ")
    );
    plot.finish(id, class, "Retention by group", &text)
}

/// Moves names apart that would touch: from the lowest up.
pub(super) fn moved_apart(labels: &mut [Label]) {
    const APART: f64 = 30.0;
    labels.sort_by(|a, b| b.y.total_cmp(&a.y));
    for at in 1..labels.len() {
        labels[at].y = labels[at].y.min(labels[at - 1].y - APART);
    }
}

/// Describes a column for the pointer.
fn describe(compared: &Compared, place: usize) -> String {
    let column = compared
        .query
        .column(place)
        .expect("it is a column of the table");
    let mut texts: Vec<String> = Vec::new();
    for group in &compared.groups {
        let name = groups::name(&group.kind);
        texts.push(match group.table.averages[place] {
            Some(average) => format!(
                "{name} · {} · {} of {}",
                words::rate_of(average.rate, average.size),
                crate::render::thousands(average.retained),
                crate::render::thousands(average.size)
            ),
            None => format!("{name} · –"),
        });
    }
    let differences = compared.differences.iter();
    let differences = differences.filter(|difference| difference.column == place);
    texts.extend(differences.filter_map(|of| groups::difference(compared, of)));
    texts.insert(0, format!("{} {}", compared.query.grain, column.label()));
    texts.join("\n")
}
