//! Retention questions, and what the store covers.

use std::sync::{Arc, PoisonError};

use chrono::{DateTime, Utc};

use crate::calendar::{Grain, Period};
use crate::reports::coverage::{Coverage, Failed};
use crate::reports::retention::{Query, QueryError, Question, Table};
use crate::sets::{Catalogue, Key, Plan};
use crate::store::Freshness;
use crate::tracker::Counted;
use crate::tracker::{Error, Result, Tracker};

/// A retention question with its counts.
#[derive(Debug)]
pub struct Answer {
    /// The bitmaps there were.
    pub keys: Arc<Catalogue>,
    /// What they cover.
    pub coverage: Coverage,
    /// What was asked.
    pub question: Question,
    /// What was counted.
    pub counted: Counted,
}

impl Answer {
    /// The table.
    pub fn table(&self) -> Table {
        self.question
            .table(&self.counted.counts)
            .recorded_since(self.question.recorded(&self.keys))
    }
}

/// A coverage, and what it stands on.
#[derive(Debug)]
pub(super) struct Covered {
    keys: Arc<Catalogue>,
    /// The hour that held *now*, and whether that was given.
    at: (Period, bool),
    /// The bitmaps in which it found somebody: while they hold anybody, and no bitmap comes or
    /// goes, nothing changes.
    witnesses: Vec<Key>,
    coverage: Coverage,
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
        self.coverage_of(&self.catalogue()?, now, now_given)
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

    /// Answers a retention query as of `now`, a moment that was chosen, from bitmaps as they are
    /// now.
    ///
    /// # Errors
    /// When the query cannot be answered, or the store could not say.
    pub fn retention(&self, query: &Query, now: DateTime<Utc>) -> Result<Table> {
        Ok(self
            .answer(query, (now, true), Freshness::Checked, |_| ())?
            .table())
    }

    /// A retention query with its saved segments written out, to be counted by a store with this
    /// coverage. Its table tells the query as it was asked.
    ///
    /// # Errors
    /// When the query cannot be answered.
    pub fn question(&self, query: &Query, coverage: &Coverage) -> Result<Question, QueryError> {
        Ok(query
            .expanded(&self.segments)?
            .question(coverage)?
            .asked_as(query.clone()))
    }

    /// Answers a retention query as of `now`, and whether that was given (see
    /// [`coverage`](Self::coverage)). `planned` is told the question before it is counted. When
    /// somebody is counted in a period without a bitmap, the list of bitmaps has become old: it is
    /// read again, and the query answered again.
    ///
    /// # Errors
    /// When the query cannot be answered, or the store could not say.
    pub fn answer(
        &self,
        query: &Query,
        (now, now_given): (DateTime<Utc>, bool),
        freshness: Freshness,
        planned: impl Fn(&Question),
    ) -> Result<Answer> {
        let mut is_fresh = false;
        loop {
            let keys = self.catalogue()?;
            let coverage = self.coverage_of(&keys, now, now_given)?;
            let question = self.question(query, &coverage)?;
            planned(&question);
            let counted = self.counted(question.plan(), freshness)?;
            if is_fresh || !question.contradicts_coverage(&counted.counts) {
                return Ok(Answer {
                    keys,
                    coverage,
                    question,
                    counted,
                });
            }
            self.forget_list();
            is_fresh = true;
        }
    }
}
