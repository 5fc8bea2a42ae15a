//! The frequency report as figures, notes and charts.

use crate::calendar::Grain;
use crate::render::axis::{Axis, periods_of};
use crate::render::chart::{CURVE, Canvas, Hit, LOW, SIZES, SNUG, short_count, titled};
use crate::render::drawing::{Drawing, Figure};
use crate::render::plot::{COLOURS, Column, Plot, height};
use crate::render::{many, thousands, words};
use crate::reports::Exports;
use crate::reports::coverage::State;
use crate::reports::frequency::{Curve, Habits};

/// Returns from how many periods on users come regularly: about a sixth of the window, and three
/// days of a week.
fn regular(length: usize) -> usize {
    if length <= 10 {
        length.div_ceil(3)
    } else {
        length.div_ceil(6)
    }
}

/// Returns from how many periods on users come nearly always: five of seven.
fn nearly_always(length: usize) -> usize {
    (length * 5).div_ceil(7)
}

fn length(habits: &Habits) -> usize {
    usize::try_from(habits.window.length()).expect("a window has at most 366 periods")
}

fn unit(habits: &Habits) -> &'static str {
    habits.window.grain().as_str()
}

/// The days of a window: `from Fri 23 Oct 2026 to Thu 19 Nov 2026`.
fn span(curve: &Curve) -> String {
    let [from, until] = [curve.from, curve.until].map(words::full_label);
    if from == until {
        from
    } else {
        format!("from {from} to {until}")
    }
}

/// Returns the figures above the charts.
pub fn figures(habits: &Habits) -> Vec<Figure> {
    let curve = &habits.curve;
    let unit = unit(habits);
    let number = |count| many(count, unit);
    let people = curve.people(1).unwrap_or_default();
    let none = || match curve.state {
        State::NotRecorded => "not recorded".to_owned(),
        State::Future => "in the future".to_owned(),
        _ => "nobody was active".to_owned(),
    };
    let note = |text: String| if people > 0 { text } else { none() };
    let mut figures = vec![Figure {
        value: curve.mean().map(|mean| format!("{mean:.1} {unit}s")),
        label: "mean of active people".to_owned(),
        note: note(format!(
            "{} of {}",
            number(curve.total().unwrap_or_default()),
            words::people(people)
        )),
    }];
    let least = regular(length(habits));
    figures.push(Figure {
        value: curve.share(least).map(words::percent),
        label: format!("on {} or more", number(least as u64)),
        note: note(words::people(curve.people(least).unwrap_or_default())),
    });
    let once = curve.exactly.as_ref().map_or(0, |exactly| exactly[0]);
    figures.push(Figure {
        value: curve.median().map(|median| number(median as u64)),
        label: "half on no more".to_owned(),
        note: note(format!("{} on one {unit} only", words::people(once))),
    });
    let most = nearly_always(length(habits));
    figures.push(Figure {
        value: curve.people(most).filter(|_| people > 0).map(thousands),
        label: format!("people on {} or more", number(most as u64)),
        note: note(format!(
            "{} of the active",
            words::percent(curve.share(most).unwrap_or_default())
        )),
    });
    figures
}

/// Returns what a reader of the table has to know.
pub fn notes(habits: &Habits) -> Vec<String> {
    let curve = &habits.curve;
    let unit = unit(habits);
    let mut notes = vec![format!(
        "Window {}. It counts the {unit}s on which a person was active at all, not how often: twenty marks on one {unit} \
         are one {unit}. People without such a {unit} are not in it.",
        span(curve)
    )];
    notes.extend(match (curve.state, habits.begins) {
        (State::InProgress, _) => Some(format!("* {}.", words::in_progress(habits.data_ends))),
        (State::PartlyRecorded, Some(begins)) => Some(format!(
            "≥ at least: the window is not recorded whole; {}.",
            words::recorded_from(&habits.segment, begins)
        )),
        (State::PartlyRecorded, None) => {
            Some("≥ at least: the window is not recorded whole.".to_owned())
        }
        (State::NotRecorded, _) => Some("– not recorded.".to_owned()),
        (State::Future, _) => Some("The window has not begun.".to_owned()),
        (State::Complete, _) => None,
    });
    notes
}

/// Draws the histogram for the narrow column of a page about more than the frequency.
pub fn beside_others(habits: &Habits) -> Drawing {
    let unit = unit(habits);
    let n = length(habits);
    Drawing {
        caption: format!("Active {unit}s of {n}"),
        detail: format!(
            "people with exactly so many; pale below {}",
            many(regular(n) as u64, unit)
        ),
        svg: histogram(habits, &SIZES, "frequency", "chart sizes"),
        small: String::new(),
        is_wide: false,
    }
}

/// Draws the charts of a page.
pub fn drawings(habits: &Habits) -> Vec<Drawing> {
    let unit = unit(habits);
    let mut drawings = vec![
        Drawing {
            svg: histogram(habits, &CURVE, "frequency", "chart curve roomy"),
            small: histogram(habits, &SNUG, "frequency-small", "chart sizes snug"),
            ..beside_others(habits)
        },
        Drawing {
            caption: "At least".to_owned(),
            detail: format!("share of people with so many {unit}s or more"),
            svg: at_least(habits, &SIZES, "at-least", "chart sizes roomy"),
            small: at_least(habits, &SNUG, "at-least-small", "chart sizes snug"),
            is_wide: false,
        },
    ];
    if !habits.weeks.is_empty() {
        drawings.push(Drawing {
            caption: "Active days of 7".to_owned(),
            detail: "mean of the people of each complete week".to_owned(),
            svg: weeks(habits, &LOW, "weeks", "chart whole roomy"),
            small: weeks(habits, &SNUG, "weeks-small", "chart sizes snug"),
            is_wide: true,
        });
    }
    drawings
}

/// Draws the histogram as a standalone file.
pub fn file(habits: &Habits) -> String {
    let svg = histogram(habits, &CURVE, "frequency", "chart");
    let facts: Vec<String> = [span(&habits.curve), habits.calendar().words()]
        .into_iter()
        .chain(habits.data_ends.map(words::ends))
        .collect();
    titled(&svg, &habits.title(), &[facts.join(" · ")])
}

/// Returns the columns that the axis names, with their numbers.
fn numbered(n: usize) -> Vec<(usize, String)> {
    let step = [1, 5, 10, 50].into_iter().find(|step| n / step <= 10);
    let step = step.unwrap_or(100);
    let is_named = |k: &usize| *k == 1 || *k == n || (k.is_multiple_of(step) && k + step / 2 < n);
    let named = (1..=n).filter(is_named);
    named.map(|k| (k - 1, k.to_string())).collect()
}

fn histogram(habits: &Habits, canvas: &Canvas, id: &str, class: &str) -> String {
    let unit = unit(habits);
    let n = length(habits);
    let exactly = habits.curve.exactly.clone().unwrap_or_default();
    let axis = Axis::count(height(exactly.iter().copied().max().unwrap_or(0)));
    let mut plot = Plot::new(canvas, (0.0, axis.top), n);
    plot.rules(&axis.ticks, |tick| short_count(tick, axis.top));
    let core = regular(n);
    let is_final = habits.curve.state == State::Complete;
    for (is_core, pale) in [(false, " pale"), (true, "")] {
        let bars = (1..).zip(&exactly).filter_map(|(k, people): (usize, _)| {
            let is_shown = (k >= core) == is_core && *people > 0;
            is_shown.then(|| Column {
                column: k - 1,
                from: 0.0,
                to: height(*people),
            })
        });
        let opacity = match (is_core, is_final) {
            (true, true) => "1",
            (true, false) => "0.6",
            (false, _) => "0.38",
        };
        plot.coloured_bars(1, (pale, opacity), bars);
    }
    plot.below(&numbered(n), &format!("{unit}s with any activity, of {n}"));
    let people = exactly.iter().copied();
    plot.hits(
        (1..)
            .zip(people)
            .map(|(k, people)| days(k, format!("{} · {}", many(k, unit), words::people(people)))),
    );
    let title = format!("People by the number of active {unit}s of {n}");
    plot.finish(id, class, &title, &summary(habits))
}

/// What a chart says about people with this many active days.
fn days(count: u64, text: String) -> Hit {
    Hit {
        at: count.to_string(),
        text,
    }
}

fn summary(habits: &Habits) -> String {
    let curve = &habits.curve;
    match (curve.people(1), curve.mean()) {
        (Some(people), Some(mean)) => format!(
            "{} were active {}, on {mean:.1} {}s on average.",
            words::people(people),
            span(curve),
            unit(habits)
        ),
        (Some(_), None) => format!("Nobody was active {}.", span(curve)),
        (None, _) => format!("Nothing is recorded {}.", span(curve)),
    }
}

fn at_least(habits: &Habits, canvas: &Canvas, id: &str, class: &str) -> String {
    let unit = unit(habits);
    let n = length(habits);
    let mut plot = Plot::new(canvas, (0.0, 100.0), n);
    plot.rules(&[0.0, 25.0, 50.0, 75.0, 100.0], |tick| format!("{tick}%"));
    let shares: Vec<Option<f64>> = (1..=n)
        .map(|k| habits.curve.share(k).map(|share| share * 100.0))
        .collect();
    let stroke = COLOURS[0];
    plot.line("line c1", &format!(r#"stroke="{stroke}""#), &shares);
    plot.below(&numbered(n), &format!("at least so many {unit}s"));
    let shares = (1..=n).map(|k| {
        let share = habits.curve.share(k).map(words::percent);
        let share = share.unwrap_or_else(|| "no people".to_owned());
        days(
            k as u64,
            format!("{} or more · {share}", many(k as u64, unit)),
        )
    });
    plot.hits(shares);
    let title = format!("Share of people with at least so many active {unit}s");
    plot.finish(id, class, &title, &summary(habits))
}

fn weeks(habits: &Habits, canvas: &Canvas, id: &str, class: &str) -> String {
    let weeks = &habits.weeks;
    let mut plot = Plot::new(canvas, (0.0, 7.0), weeks.len());
    plot.rules(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], |tick| {
        tick.to_string()
    });
    let bars = weeks.iter().enumerate().filter_map(|(column, week)| {
        Some(Column {
            column,
            from: 0.0,
            to: week.mean()?,
        })
    });
    plot.coloured_bars(1, ("", "1"), bars);
    let first = |week: &Curve| week.from.within(Grain::Week(habits.week)).short_label();
    let named = weeks.iter().enumerate();
    let step = if canvas.width <= SIZES.width { 2 } else { 1 };
    let named = named.filter(|(at, _)| at.is_multiple_of(step));
    let named: Vec<(usize, String)> = named.map(|(at, week)| (at, first(week))).collect();
    plot.below(
        &named,
        &periods_of(Grain::Week(habits.week), habits.curve.until.zone()),
    );
    let describe = |week: &Curve| {
        let label = week.from.within(Grain::Week(habits.week)).label();
        let people = words::people(week.people(1).unwrap_or_default());
        match (week.mean(), week.share(3)) {
            (Some(mean), Some(share)) => {
                let share = words::percent(share);
                format!("{label}: {mean:.2} days, {share} on 3 or more, {people}")
            }
            _ => format!("{label}: {people}"),
        }
    };
    plot.hits(weeks.iter().map(|week| Hit {
        at: week.from.to_string(),
        text: describe(week).replacen(": ", " · ", 1).replace(", ", " · "),
    }));
    let text = weeks.iter().map(describe).collect::<Vec<_>>().join("; ");
    plot.finish(id, class, "Mean active days of each complete week", &text)
}
