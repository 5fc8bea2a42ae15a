//! A lifecycle as figures, notes and a chart of stacked bars.

use crate::render::axis::{Axis, period_labels, periods_of};
use crate::render::chart::{CURVE, Canvas, Hit, SIZES, SNUG, WHOLE, short_count, titled};
use crate::render::drawing::{Drawing, Figure};
use crate::render::plot::{Column, Label, Plot, height};
use crate::render::{thousands, words};
use crate::reports::Exports;
use crate::reports::coverage::State;
use crate::reports::lifecycle::{Class, Growth, Stage};

/// The classes above zero, from the bottom, with the number of their colour.
const STACK: [(Class, usize); 3] = [
    (Class::Returning, 1),
    (Class::Resurrected, 4),
    (Class::New, 5),
];

/// The number of the colour of dormant users.
const DORMANT: usize = 2;

/// The look of bars that do not change any more.
const FINAL: (&str, &str) = ("", "1");

/// At most so many columns have their numbers beside the bars.
const NUMBERED: usize = 14;

/// Returns the figures above the chart. All but the first are about the last complete period.
pub fn figures(growth: &Growth) -> Vec<Figure> {
    let quick = growth.quick_ratio();
    let periods = quick.periods as u64;
    let complete = crate::render::many(periods, &format!("complete {}", growth.grain));
    let mut figures = vec![Figure {
        value: quick.ratio().map(|ratio| format!("{ratio:.2}")),
        label: format!("quick ratio over {complete}"),
        note: match (quick.periods, quick.lost) {
            (0, _) => words::none_complete(growth.grain.as_str(), growth.data_ends),
            (_, 0) => "nobody left".to_owned(),
            _ => format!(
                "{} new or resurrected ÷ {} dormant",
                thousands(quick.gained),
                thousands(quick.lost)
            ),
        },
    }];
    let mut stages = growth.stages.iter().rev();
    let last = stages.find_map(|stage| Some((stage, stage.complete()?)));
    let Some((stage, classes)) = last else {
        return figures;
    };
    let when = words::when(stage.period);
    let active = stage.active.unwrap_or_default();
    let before = classes.returning + classes.dormant;
    figures.push(Figure {
        value: Some(thousands(active)),
        label: format!("active {when}"),
        note: format!(
            "{} on the {} before",
            words::difference(classes.net()),
            growth.grain
        ),
    });
    figures.push(Figure {
        value: Some(thousands(classes.gained())),
        label: "came or came back".to_owned(),
        note: format!(
            "{} new, {} resurrected",
            thousands(classes.new),
            thousands(classes.resurrected)
        ),
    });
    let share = crate::stats::rate(classes.dormant, before);
    figures.push(Figure {
        value: Some(thousands(classes.dormant)),
        label: "became dormant".to_owned(),
        note: share.map_or_else(
            || "nobody was active before".to_owned(),
            |share| {
                format!(
                    "{} of the {} before",
                    words::percent(share),
                    thousands(before)
                )
            },
        ),
    });
    figures
}

/// Returns what a reader of the table has to know.
pub fn notes(growth: &Growth) -> Vec<String> {
    let grain = growth.grain;
    let mut notes = vec![format!(
        "active = new + returning + resurrected. Returning people were active in the {grain} before too; \
             resurrected people earlier, not in the {grain} before. Dormant people were active in the {grain} before \
             and not in this one. net = new + resurrected − dormant; quick ratio = (new + resurrected) ÷ dormant."
    )];
    let has = |state| growth.stages.iter().any(|stage| stage.state == state);
    if has(State::InProgress) {
        notes.push(format!(
            "* {}: dormant people are only not back yet, and are not drawn as a loss.",
            words::in_progress(growth.data_ends)
        ));
    }
    if has(State::PartlyRecorded) {
        notes.push(match growth.begins {
            Some(begins) => format!(
                "≥ at least: {}, and the {grain} before is not recorded, so everybody would look new.",
                words::recorded_from(&growth.segment, begins)
            ),
            None => format!("≥ at least: the {grain} before is not recorded, so everybody would look new."),
        });
    }
    if has(State::NotRecorded) {
        notes.push("– not recorded.".to_owned());
    }
    notes
}

/// Draws the lifecycle for a page.
pub fn drawings(growth: &Growth) -> Vec<Drawing> {
    vec![Drawing {
        caption: format!("Active people by {}", growth.grain),
        detail: format!(
            "above zero who was there; below, who was there the {} before and is not; pale {}",
            growth.grain,
            words::while_in_progress(growth.data_ends)
        ),
        svg: draw(
            growth,
            &with_legend(&WHOLE),
            "lifecycle",
            "chart whole roomy",
        ),
        small: draw(
            growth,
            &with_legend(&SNUG),
            "lifecycle-small",
            "chart sizes snug",
        ),
        is_wide: false,
    }]
}

/// Draws the lifecycle for the wide column of a page about more than the lifecycle.
pub fn beside_others(growth: &Growth) -> Drawing {
    let [drawing] = drawings(growth).try_into().expect("one chart");
    Drawing {
        svg: draw(
            growth,
            &with_legend(&CURVE),
            "lifecycle",
            "chart curve roomy",
        ),
        ..drawing
    }
}

/// Draws the lifecycle as a standalone file.
pub fn file(growth: &Growth) -> String {
    let svg = draw(growth, &with_legend(&CURVE), "lifecycle", "chart");
    let ends = growth.stages.first().zip(growth.stages.last());
    let range = ends.map(|(first, last)| words::from_to(first.period, last.period));
    let facts: Vec<String> = range
        .into_iter()
        .chain([growth.calendar().words()])
        .chain(growth.data_ends.map(words::ends))
        .collect();
    titled(&svg, &growth.title(), &[facts.join(" · ")])
}

/// Returns a canvas with room for a legend.
fn with_legend(canvas: &Canvas) -> Canvas {
    Canvas { top: 76, ..*canvas }
}

fn draw(growth: &Growth, canvas: &Canvas, id: &str, class: &str) -> String {
    let stages = &growth.stages;
    // A period in progress does not stretch the axis.
    let active = |is_final: bool| {
        let stages = stages.iter();
        let stages = stages.filter(|stage| !is_final || stage.state != State::InProgress);
        stages.filter_map(|stage| stage.count(Class::Active)).max()
    };
    let greatest = active(true).filter(|count| *count > 0).or(active(false));
    let axis = Axis::count(height(greatest.unwrap_or(0)));
    let step = axis.ticks[1];
    let lost = stages.iter().filter_map(|stage| stage.complete());
    let lost = height(lost.map(|classes| classes.dormant).max().unwrap_or(0));
    let low = (lost / step).ceil().min(20.0);
    let mut ticks = axis.ticks.clone();
    let mut below = step;
    while below <= low * step {
        ticks.push(-below);
        below += step;
    }
    let mut plot = Plot::new(canvas, (-low * step, axis.top), stages.len());
    // From the top, as in the chart.
    let stack = STACK.iter().rev().copied();
    let keys = stack.chain([(Class::Dormant, DORMANT)]);
    let keys: Vec<(usize, &str)> = keys
        .map(|(class, colour)| (colour, class.as_str()))
        .collect();
    plot.legend(&keys);
    plot.keys = vec!["c5", "c4", "c1", "c2"];
    plot.rules(&ticks, |tick| short_count(tick.abs(), axis.top));
    for (class, colour) in STACK {
        for (state, look) in [
            (State::Complete, FINAL),
            (State::InProgress, (" pale", "0.38")),
        ] {
            let bars = stages.iter().enumerate().filter_map(|(column, stage)| {
                let count = stage.count(class).filter(|_| stage.state == state)?;
                let from = under(stage, class);
                Some(Column {
                    column,
                    from: height(from),
                    to: height(from + count),
                })
            });
            plot.coloured_bars(colour, look, bars.filter(|bar| bar.to > bar.from));
        }
    }
    let lost = stages.iter().enumerate().filter_map(|(column, stage)| {
        let dormant = stage.complete()?.dormant;
        (dormant > 0).then(|| Column {
            column,
            from: 0.0,
            to: -height(dormant),
        })
    });
    plot.coloured_bars(DORMANT, FINAL, lost);
    let partial = stages.iter().enumerate().filter_map(|(column, stage)| {
        let active = stage
            .active
            .filter(|_| stage.state == State::PartlyRecorded)?;
        Some(Column {
            column,
            from: 0.0,
            to: height(active),
        })
    });
    let hollow = r##"fill="none" stroke="#566778" stroke-width="2" stroke-dasharray="6 5""##;
    plot.bars("hollow", hollow, partial);
    if stages.len() <= NUMBERED {
        let labels = numbers(&plot, stages);
        plot.texts("labels numbers", labels);
    }
    let periods: Vec<_> = stages.iter().map(|stage| stage.period).collect();
    let few = canvas.width <= SIZES.width;
    plot.below(
        &period_labels(&periods, few),
        &periods_of(growth.grain, growth.zone),
    );
    plot.hits(stages.iter().map(|stage| Hit {
        at: stage.period.to_string(),
        text: rows_of(growth, stage),
    }));
    let title = format!("Active people by {}", growth.grain);
    plot.finish(id, class, &title, &summary(growth))
}

/// The people below a class in the stack.
fn under(stage: &Stage, class: Class) -> u64 {
    let below = STACK.iter().take_while(|(other, _)| *other != class);
    below.filter_map(|(class, _)| stage.count(*class)).sum()
}

/// The numbers above the bars.
fn numbers(plot: &Plot<'_>, stages: &[Stage]) -> Vec<Label> {
    let label = |(column, stage): (usize, &Stage)| {
        let active = stage.active?;
        let text = match stage.state {
            State::InProgress => format!("{}*", thousands(active)),
            State::PartlyRecorded => words::at_least(&thousands(active)),
            _ => thousands(active),
        };
        Some(Label {
            x: plot.middle(column),
            y: plot.y(height(active)) - 8.0,
            anchor: "middle",
            text,
        })
    };
    stages.iter().enumerate().filter_map(label).collect()
}

fn describe(growth: &Growth, stage: &Stage) -> String {
    let label = words::full_label(stage.period);
    let Some(active) = stage.active else {
        return format!("{label}: not recorded");
    };
    let Some(classes) = stage.classes else {
        return format!("{label}: at least {}", words::people(active));
    };
    let (dormant, so_far) = match stage.state {
        State::InProgress => (
            "not back yet",
            format!(", {}", words::in_progress(growth.data_ends)),
        ),
        _ => ("dormant", String::new()),
    };
    format!(
        "{label}: {}, {} new, {} resurrected, {} returning; {} {dormant}{so_far}",
        words::people(active),
        thousands(classes.new),
        thousands(classes.resurrected),
        thousands(classes.returning),
        thousands(classes.dormant)
    )
}

/// Describes a period for the pointer: a row for each class.
fn rows_of(growth: &Growth, stage: &Stage) -> String {
    let label = words::full_label(stage.period);
    let (Some(active), Some(classes)) = (stage.active, stage.classes) else {
        return describe(growth, stage).replacen(": ", " · ", 1);
    };
    let (dormant, so_far) = match stage.state {
        State::InProgress => (
            "not back yet",
            format!(" · {}", words::in_progress(growth.data_ends)),
        ),
        _ => ("dormant", String::new()),
    };
    let [new, resurrected, returning, lost] = [
        classes.new,
        classes.resurrected,
        classes.returning,
        classes.dormant,
    ]
    .map(thousands);
    format!(
        "{label} · {}{so_far}\nnew · {new}\nresurrected · {resurrected}\nreturning · {returning}\n{dormant} · {lost}",
        words::people(active)
    )
}

fn summary(growth: &Growth) -> String {
    let mut complete = growth.stages.iter().rev();
    match complete.find(|stage| stage.complete().is_some()) {
        Some(stage) => format!("The last complete one is {}.", describe(growth, stage)),
        None => format!("No {} is complete.", growth.grain),
    }
}
