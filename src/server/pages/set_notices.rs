//! Notices about a list of people: it may still change, has not begun, or is only partly recorded.

use crate::calendar::Period;
use crate::render::words;
use crate::reports::coverage::{Coverage, State as Progress};
use crate::reports::people::{CellMembers, Who};
use crate::reports::retention::Query;

/// Explains why the people of a set can still change, and why there may be none yet, or no data.
pub(super) fn set_notices(periods: &[Period], coverage: &Coverage) -> Vec<String> {
    let of = |wanted: &dyn Fn(Progress) -> bool| -> Vec<Period> {
        periods
            .iter()
            .copied()
            .filter(|period| wanted(coverage.state_of(*period)))
            .collect()
    };
    let all = |periods: Vec<Period>, one: &str, many: &str| -> String {
        let spoken: Vec<String> = periods.into_iter().map(words::spoken).collect();
        match &spoken[..] {
            [most @ .., last] if !most.is_empty() => {
                format!("{} and {last} {many}", most.join(", "))
            }
            _ => format!("{} {one}", spoken.concat()),
        }
    };
    let running = of(&|state| state == Progress::InProgress);
    let future = of(&|state| state == Progress::Future);
    let unrecorded = of(&|state| state == Progress::NotRecorded);
    let mut notices = Vec::new();
    if !unrecorded.is_empty() {
        let extent = words::extent(coverage, &unrecorded);
        notices.push(format!(
            "{} not recorded{extent}.",
            all(unrecorded, "is", "are")
        ));
    }
    if let Some(longest) = running.into_iter().max_by_key(|period| period.end()) {
        notices.push(so_far(longest, coverage, "the list may change"));
    }
    if !future.is_empty() {
        notices.push(format!("{} not begun.", all(future, "has", "have")));
    }
    notices
}

/// Says that a period is in progress and what that may change, or that the data ends in it.
fn so_far(period: Period, coverage: &Coverage, then: &str) -> String {
    match coverage.data_ends(period.grain()) {
        None => {
            let spoken = words::spoken(period);
            format!("So far: {spoken} is still in progress, and {then}.")
        }
        Some(_) => {
            let when = words::when(period);
            format!("So far: the data ends {when}, and {then} with more data.")
        }
    }
}

/// Explains why the people of a cell can still change, or may be incomplete.
pub(super) fn cell_notice(
    query: &Query,
    members: &CellMembers,
    who: Who,
    coverage: &Coverage,
) -> Option<String> {
    if members.state == Progress::InProgress {
        if coverage.data_ends(query.grain).is_some() {
            return Some(so_far(members.period, coverage, "the cohort may grow"));
        }
        return Some(format!(
            "So far: this {} is still in progress, and the cohort may grow.",
            query.grain
        ));
    }
    let window = members.back.as_ref().filter(|_| who != Who::Cohort)?.window;
    match window.state {
        Progress::InProgress => Some(so_far(window.until, coverage, "more may come back")),
        Progress::PartlyRecorded if who == Who::Returned => Some(
            "At least: some of these periods are not recorded, and more may have come back."
                .to_owned(),
        ),
        Progress::PartlyRecorded => Some(
            "At most: some of these periods are not recorded, and more may have come back."
                .to_owned(),
        ),
        _ => None,
    }
}
