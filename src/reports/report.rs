//! The common interface of reports: a question becomes one plan, and its results become an answer.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::calendar::Period;
use crate::reports::coverage::Coverage;
use crate::reports::error::QueryError;
use crate::sets::{
    Catalogue, Counts, EventName, Key, Labels, Pattern, Plan, Segments, Set, SetContext, UserId,
};

/// A question that a store answers with one plan.
///
/// [`Tracker::run`](crate::Tracker::run) plans it, fetches the results and asks for the answer.
/// `docs/architecture.md` describes how to add a report.
pub trait Report {
    /// The question with fixed periods, and the ids of its counts among the results.
    type Planned;
    /// The answer.
    type Answer;

    /// Adds to `request` what the answer needs.
    ///
    /// # Errors
    /// If a limit is exceeded, or a field contradicts another one or the store's data.
    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<Self::Planned, QueryError>;

    /// Whether the results show that the catalogue was out of date when the question was planned.
    /// Then it is read and planned again.
    fn is_stale(_planned: &Self::Planned, _results: &Results) -> bool {
        false
    }

    /// Returns what else the answer needs, given the results so far. It is called with the new
    /// results until it returns `None`.
    ///
    /// # Errors
    /// If the rest cannot be planned.
    fn next(
        _planned: &mut Self::Planned,
        _results: &Results,
        _context: &Context<'_>,
    ) -> Result<Option<Request>, QueryError> {
        Ok(None)
    }

    /// Returns the answer, from the results of the last request.
    fn answer(planned: Self::Planned, results: &Results) -> Self::Answer;
}

/// Plans a report as of `now`, for a store that has recorded everything until then and has no saved
/// segments. For tests, benchmarks, and checks of a question.
///
/// # Errors
/// If the report cannot be planned.
pub fn plan_at<R: Report>(
    report: &R,
    now: DateTime<Utc>,
) -> Result<(Plan, R::Planned), QueryError> {
    let mut request = Request::default();
    let context = Context {
        coverage: &Coverage::whole(now)?,
        catalogue: &Arc::default(),
        segments: &Segments::default(),
        labels: &Labels::new(),
        hidden: &[],
    };
    let planned = report.plan(&mut request, &context)?;
    Ok((request.plan, planned))
}

/// Answers a report that only counts. `count` returns one count for each root of the plan. For
/// tests, and for programs that count elsewhere.
///
/// # Errors
/// If the report cannot be planned.
///
/// # Panics
/// If `count` returns another number of counts than the plan has roots.
pub fn answer_with<R: Report>(
    report: &R,
    context: &Context<'_>,
    count: impl Fn(&Plan) -> Vec<u64>,
) -> Result<R::Answer, QueryError> {
    let mut request = Request::default();
    let mut planned = report.plan(&mut request, context)?;
    let counted = |plan: &Plan| {
        let counts = Counts::new(plan, count(plan));
        Results::of_counts(counts.expect("the caller counts every root of the plan"))
    };
    let mut results = counted(&request.plan);
    while let Some(next) = R::next(&mut planned, &results, context)? {
        results = counted(&next.plan);
    }
    Ok(R::answer(planned, &results))
}

/// The inputs of planning.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Which periods are recorded, and *now*.
    pub coverage: &'a Coverage,
    /// The bitmaps that exist.
    pub catalogue: &'a Arc<Catalogue>,
    /// The saved segments.
    pub segments: &'a Segments,
    /// The names of events for people.
    pub labels: &'a Labels,
    /// The events that lists leave out.
    pub hidden: &'a [Pattern],
}

impl Context<'_> {
    /// What sets and segments may refer to.
    pub fn sets(&self) -> SetContext<'_> {
        SetContext {
            segments: self.segments,
            catalogue: self.catalogue,
            hidden: self.hidden,
        }
    }

    /// Whether numbers of these events in these periods may include marks made after a chosen
    /// *now*.
    pub fn may_include_later<'a>(
        &self,
        names: impl IntoIterator<Item = &'a EventName>,
        periods: &[Period],
    ) -> bool {
        let now = self.coverage.now();
        self.coverage.now_is_given() && !self.catalogue.later_in(names, periods, now).is_empty()
    }
}

/// The request of a report to a store.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The counts.
    pub plan: Plan,
    pages: Vec<Page>,
    lookups: Vec<Lookup>,
}

/// A page of the users of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The set.
    pub set: Set,
    /// Only users greater than this one.
    pub after: Option<UserId>,
    /// At most this many.
    pub limit: usize,
}

/// A lookup of one user in bitmaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The bitmaps.
    pub keys: Vec<Key>,
    /// The user.
    pub user: UserId,
}

/// The index of a [`Page`] among the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageId(usize);

/// The index of a [`Lookup`] among the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookupId(usize);

impl Request {
    /// Requests a page of the users of a set, in ascending order.
    pub fn page(&mut self, page: Page) -> PageId {
        self.pages.push(page);
        PageId(self.pages.len() - 1)
    }

    /// Requests which of the bitmaps contain a user.
    pub fn lookup(&mut self, lookup: Lookup) -> LookupId {
        self.lookups.push(lookup);
        LookupId(self.lookups.len() - 1)
    }

    /// Returns the requested pages in order.
    pub fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Returns the requested lookups in order.
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }
}

/// The results of a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// The counts of the plan.
    pub counts: Counts,
    pages: Vec<Vec<UserId>>,
    lookups: Vec<Vec<bool>>,
}

impl Results {
    /// The results of a request.
    ///
    /// # Panics
    /// If there is not one result for each part of the request.
    pub fn new(
        request: &Request,
        counts: Counts,
        pages: Vec<Vec<UserId>>,
        lookups: Vec<Vec<bool>>,
    ) -> Self {
        assert_eq!(
            (pages.len(), lookups.len()),
            (request.pages.len(), request.lookups.len())
        );
        Results {
            counts,
            pages,
            lookups,
        }
    }

    /// The results of a request that only counts.
    pub fn of_counts(counts: Counts) -> Self {
        Results {
            counts,
            pages: Vec::new(),
            lookups: Vec::new(),
        }
    }

    /// The users of a page, in ascending order.
    pub fn page(&self, id: PageId) -> &[UserId] {
        &self.pages[id.0]
    }

    /// Returns for each bitmap of a lookup whether it contains the user.
    pub fn lookup(&self, id: LookupId) -> &[bool] {
        &self.lookups[id.0]
    }
}
