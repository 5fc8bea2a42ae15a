//! Runs work on several nodes in parallel.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::store::{Cancel, Result, StoreError};

/// The most nodes that one request uses at the same time.
const AT_ONCE: usize = 32;

/// Runs the items of each lane one after the other, and the lanes in parallel. After a failure no
/// new item is started, and the failure is returned. Answers come in the order of the items.
pub(super) fn side_by_side<I: Sync, T: Send>(
    lanes: &[Vec<I>],
    location: &str,
    run: &(impl Fn(&I) -> Result<T> + Sync),
) -> Result<Vec<Vec<T>>> {
    if let [lane] = lanes {
        return Ok(vec![lane.iter().map(run).collect::<Result<_>>()?]);
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let outcomes: Vec<Mutex<Result<Vec<T>>>> =
        lanes.iter().map(|_| Mutex::new(Ok(Vec::new()))).collect();
    let work = || {
        while let Some((lane, outcome)) =
            lane_and_outcome(lanes, &outcomes, next.fetch_add(1, Ordering::Relaxed))
        {
            let answers = lane
                .iter()
                .take_while(|_| !failed.load(Ordering::Relaxed))
                .map(run);
            let answers: Result<Vec<T>> = answers.collect();
            failed.fetch_or(answers.is_err(), Ordering::Relaxed);
            *outcome.lock().unwrap_or_else(PoisonError::into_inner) = answers;
        }
    };
    let cancel = Cancel::current();
    std::thread::scope(|scope| {
        // This thread works as well.
        let spawned = (1..lanes.len().min(AT_ONCE)).try_for_each(|_| {
            let (cancel, work) = (cancel.clone(), &work);
            let lane = move || cancel.during(work);
            std::thread::Builder::new()
                .name("cluster-lane".to_owned())
                .spawn_scoped(scope, lane)
                .map(drop)
        });
        work();
        // Fewer threads take longer and give the same result.
        if let Err(error) = spawned {
            tracing::warn!(location, %error, "could not start a thread for each node");
        }
    });
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome.into_inner().unwrap_or_else(PoisonError::into_inner));
    let answers: Vec<Vec<T>> = outcomes.collect::<Result<_>>()?;
    // Lanes end early only if one failed. Otherwise a count would be too small, so check it.
    if answers
        .iter()
        .zip(lanes)
        .any(|(answers, lane)| answers.len() != lane.len())
    {
        let reason = "not every shard answered".to_owned();
        return Err(StoreError::Unreachable {
            location: location.to_owned(),
            reason,
        });
    }
    Ok(answers)
}

type Outcome<T> = Mutex<Result<Vec<T>>>;

fn lane_and_outcome<'a, I, T>(
    lanes: &'a [Vec<I>],
    outcomes: &'a [Outcome<T>],
    at: usize,
) -> Option<(&'a Vec<I>, &'a Outcome<T>)> {
    lanes.get(at).zip(outcomes.get(at))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_come_in_the_order_of_the_things() {
        let lanes: Vec<Vec<u32>> = (0..100)
            .map(|lane| (0..lane % 7).map(|thing| lane * 10 + thing).collect())
            .collect();
        assert_eq!(
            side_by_side(&lanes, "", &|thing| Ok(*thing)).unwrap(),
            lanes
        );
        assert_eq!(
            side_by_side(&[] as &[Vec<u32>], "", &|thing| Ok(*thing)).unwrap(),
            Vec::<Vec<u32>>::new()
        );
    }

    #[test]
    fn a_failure_is_the_answer_and_ends_the_rest() {
        let begun = AtomicUsize::new(0);
        let lanes: Vec<Vec<u32>> = (0..40)
            .map(|lane| (0..1000).map(|thing| lane * 1000 + thing).collect())
            .collect();
        let error = side_by_side(&lanes, "there", &|thing| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *thing == 3 {
                Err(StoreError::Url("three".to_owned()))
            } else {
                Ok(())
            }
        });
        assert!(error.unwrap_err().to_string().contains("three"));
        assert!(begun.into_inner() < 40_000);
    }
}
