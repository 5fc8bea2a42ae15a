//! Runs reports, and finds out which periods the store covers.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::calendar::{Grain, Period};
use crate::reports::coverage::{Coverage, Failed};
use crate::reports::retention::{Query, Table};
use crate::reports::{Context, Report, Request, Results};
use crate::sets::{Catalogue, EventName, Key, Labels, Pattern, Plan};
use crate::store::{Freshness, StoreError};
use crate::tracker::base::Tracker;
use crate::tracker::error::{Error, Result};
use crate::tracker::remembered::Covered;

/// As of when a report is run, and how.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// As of when.
    pub now: DateTime<Utc>,
    /// Whether `now` was chosen and is not the time of the clock: then later marks show that the
    /// store still receives some.
    pub now_given: bool,
    /// How old the counts may be.
    pub freshness: Freshness,
    /// The names of events for people.
    pub labels: &'a Labels,
    /// The events that lists leave out.
    pub hidden: &'a [Pattern],
}

impl Run<'_> {
    /// Whether lists leave out an event.
    pub fn is_hidden(&self, name: &EventName) -> bool {
        self.hidden.iter().any(|pattern| pattern.fits(name))
    }
}

static NO_LABELS: Labels = Labels::new();

impl Run<'static> {
    /// As of a chosen moment, from bitmaps as they are now.
    pub fn at(now: DateTime<Utc>) -> Self {
        Run {
            now,
            now_given: true,
            freshness: Freshness::Checked,
            labels: &NO_LABELS,
            hidden: &[],
        }
    }
}

/// A planned report with its results.
#[derive(Debug)]
pub struct Asked<P> {
    /// The bitmaps that existed.
    pub catalogue: Arc<Catalogue>,
    /// Which periods they cover.
    pub coverage: Coverage,
    /// The question.
    pub planned: P,
    /// The results of its last request.
    pub results: Results,
    /// How long ago the store was asked.
    pub age: Duration,
}

/// A report's answer, and what it is based on.
#[derive(Debug)]
pub struct Answered<A> {
    /// The bitmaps that existed.
    pub catalogue: Arc<Catalogue>,
    /// Which periods they cover.
    pub coverage: Coverage,
    /// The answer.
    pub answer: A,
    /// How long ago the store was asked.
    pub age: Duration,
}

/// How many bitmaps are looked into at a time for one that holds anybody.
const LOOKED_INTO_AT_ONCE: usize = 16;

impl Tracker {
    /// What the store covers as of `now`, by the [`catalogue`](Self::catalogue). `now_given` says
    /// that `now` was chosen, and is not what the clock says: then later marks show that the store
    /// went on. Found once for each catalogue; after that it takes the counts of a handful of
    /// bitmaps.
    ///
    /// # Errors
    /// When the keys could not be listed, or a bitmap not be counted.
    pub fn coverage(&self, now: DateTime<Utc>, now_given: bool) -> Result<Coverage> {
        self.of_listed(|| self.coverage_of(&self.catalogue()?, now, now_given))
    }

    fn coverage_of(
        &self,
        keys: &Arc<Catalogue>,
        now: DateTime<Utc>,
        now_given: bool,
    ) -> Result<Coverage> {
        let at = (Period::containing(Grain::Hour, now)?, now_given);
        let known = {
            let covered = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
            let covered = covered
                .as_ref()
                .filter(|covered| Arc::ptr_eq(&covered.keys, keys) && covered.at == at);
            covered.map(|covered| (covered.witnesses.clone(), covered.coverage.moved_to(now)))
        };
        if let Some((witnesses, coverage)) = known
            && self.sizes_of(&witnesses)?.iter().all(|users| *users > 0)
        {
            return Ok(coverage);
        }
        let (mut witnesses, mut found_empty) = (Vec::new(), false);
        let coverage = Coverage::of_periods(keys.periods(), now, now_given, |period| {
            let witness = self.held(keys, period)?;
            found_empty |= witness.is_none();
            Ok::<bool, Error>(witness.map(|key| witnesses.push(key)).is_some())
        });
        let coverage = coverage.map_err(|error| match error {
            Failed::Calendar(error) => error.into(),
            Failed::Other(error) => error,
        })?;
        // An empty bitmap may be marked at any time, and no list of keys would tell.
        let covered = Covered {
            keys: Arc::clone(keys),
            at,
            witnesses,
            coverage: coverage.clone(),
        };
        *self.covered.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(covered).filter(|_| !found_empty);
        Ok(coverage)
    }

    /// A bitmap of the period that holds somebody.
    fn held(&self, keys: &Catalogue, period: Period) -> Result<Option<Key>> {
        let keys: Vec<Key> = keys.in_period(period).cloned().collect();
        for some in keys.chunks(LOOKED_INTO_AT_ONCE) {
            let users = self.sizes_of(some)?;
            if let Some((key, _)) = some.iter().zip(users).find(|(_, users)| *users > 0) {
                return Ok(Some(key.clone()));
            }
        }
        Ok(None)
    }

    /// How many users each bitmap has, as remembered.
    fn sizes_of(&self, keys: &[Key]) -> Result<Vec<u64>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut plan = Plan::new();
        keys.iter().for_each(|key| {
            plan.count_key(key);
        });
        Ok(self
            .counted(&plan, Freshness::Cached)?
            .counts
            .as_slice()
            .to_vec())
    }

    /// Answers a retention query as of `now`, from bitmaps as they are now.
    ///
    /// # Errors
    /// If the query cannot be answered, or the store fails.
    pub fn retention(&self, query: &Query, now: DateTime<Utc>) -> Result<Table> {
        Ok(self.run(query, &Run::at(now))?.answer)
    }

    /// Runs a report: plans it, asks the store, and makes the answer.
    ///
    /// # Errors
    /// If the report cannot be planned, or the store fails.
    pub fn run<R: Report>(&self, report: &R, run: &Run<'_>) -> Result<Answered<R::Answer>> {
        let asked = self.ask(report, run, |_| ())?;
        Ok(Answered {
            answer: R::answer(asked.planned, &asked.results),
            catalogue: asked.catalogue,
            coverage: asked.coverage,
            age: asked.age,
        })
    }

    /// As [`run`](Self::run), without making the answer. `on_planned` sees the question before it
    /// is counted.
    ///
    /// If the results show that the list of bitmaps is out of date, the list is read again and the
    /// question is asked again. The same if a listed key turns out to be
    /// [no bitmap](StoreError::NotABitmap), see [`of_listed`](Self::of_listed).
    ///
    /// # Errors
    /// As for [`run`](Self::run).
    pub fn ask<R: Report>(
        &self,
        report: &R,
        run: &Run<'_>,
        on_planned: impl Fn(&R::Planned),
    ) -> Result<Asked<R::Planned>> {
        self.of_listed(|| self.ask_once(report, run, &on_planned))
    }

    fn ask_once<R: Report>(
        &self,
        report: &R,
        run: &Run<'_>,
        on_planned: impl Fn(&R::Planned),
    ) -> Result<Asked<R::Planned>> {
        let mut is_fresh = false;
        loop {
            let catalogue = self.catalogue()?;
            let coverage = self.coverage_of(&catalogue, run.now, run.now_given)?;
            let context = Context {
                coverage: &coverage,
                catalogue: &catalogue,
                segments: self.segments(),
                labels: run.labels,
                hidden: run.hidden,
            };
            let mut request = Request::default();
            let mut planned = report.plan(&mut request, &context)?;
            on_planned(&planned);
            let (mut results, age) = self.fetch(&request, run.freshness)?;
            if !is_fresh && R::is_stale(&planned, &results) {
                self.forget_list();
                is_fresh = true;
                continue;
            }
            while let Some(next) = R::next(&mut planned, &results, &context)? {
                (results, _) = self.fetch(&next, run.freshness)?;
            }
            return Ok(Asked {
                catalogue,
                coverage,
                planned,
                results,
                age,
            });
        }
    }

    /// What the store answers to a request, and how long ago it was asked.
    fn fetch(&self, request: &Request, freshness: Freshness) -> Result<(Results, Duration)> {
        let counted = self.counted(&request.plan, freshness)?;
        let pages = request
            .pages()
            .iter()
            .map(|page| self.store.members(&page.set, page.after, page.limit));
        let pages = pages.collect::<Result<_, StoreError>>()?;
        let lookups = request
            .lookups()
            .iter()
            .map(|lookup| self.store.contains(&lookup.keys, lookup.user));
        let lookups = lookups.collect::<Result<_, StoreError>>()?;
        let results = Results::new(request, counted.counts, pages, lookups);
        Ok((results, counted.age))
    }
}
