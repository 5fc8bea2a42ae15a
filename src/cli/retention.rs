//! The notes of `cohortist retention`.

use crate::cli::notes::Notes;
use crate::cli::output::note;
use crate::clock::Clock;
use crate::endpoints::Answer;
use crate::reports::retention::Table;
use crate::reports::spans::Span;
use crate::sets::Segment;
use crate::tracker::Tracker;

/// Prints what a reader of the table must know besides its numbers.
pub fn print_notes(
    table: &Table,
    answer: &Answer,
    tracker: &Tracker,
    clock: Clock,
) -> anyhow::Result<()> {
    let query = &table.query;
    if query.rows.is_some() && query.from.is_some() && query.to.is_some() {
        note!("--rows is not used: --from and --to already say which cohorts");
    }
    let segments = [&query.cohort, &query.returning];
    let nobody = table.numbers().all(|number| number.retained == 0);
    // If a user was counted, single events were recorded.
    let is_plain = |segment: &&Segment| matches!(segment, Segment::Event(_));
    let mut notes = Notes {
        later: table
            .recorded
            .later
            .then_some(query.grain)
            .into_iter()
            .collect(),
        ..Notes::default()
    };
    if nobody {
        notes.segments = segments.to_vec();
    } else if !segments.iter().all(is_plain) {
        notes.names = segments
            .iter()
            .flat_map(|segment| segment.names())
            .collect();
    }
    notes.print(tracker, clock)?;
    if nobody && table.is_empty() && table.is_recorded() {
        print_last_cohorts(table, answer, clock);
    }
    let coverage = &answer.coverage;
    let extent = coverage.first(query.grain).zip(coverage.last(query.grain));
    if let (false, Some((first, last))) = (table.is_recorded(), extent) {
        note!(
            "the store has data from {first} to {last}; without --from and --to its latest cohorts are shown"
        );
    }
    Ok(())
}

/// Prints how to see the last cohorts of an event that had nobody in the cohorts shown.
fn print_last_cohorts(table: &Table, answer: &Answer, clock: Clock) {
    let Segment::Event(name) = &table.query.cohort else {
        return;
    };
    let Some(span) = Span::of(answer.catalogue.of(name), clock.now()) else {
        return;
    };
    let rows = i64::try_from(table.rows.len()).expect("a table has few rows");
    // A table at the beginning of the supported years has no earlier cohorts.
    let Ok(from) = span.last.within(table.query.grain).shift(1 - rows) else {
        return;
    };
    let from = from.local_start().date();
    let last = span.last.local_start().date();
    note!("`{name}` was last recorded on {last}; see its cohorts with --from {from} --to {last}");
}
