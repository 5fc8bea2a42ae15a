//! The users behind a number of a retention table: the cohort, those who came back, and those who
//! did not.

use std::str::FromStr;

use serde_json::json;

use crate::calendar::{Calendar, CalendarError, Grain, Period, Zone};
use crate::reports::coverage::{Coverage, State};
use crate::reports::error::QueryError;
use crate::reports::export::Exports;
use crate::reports::frame::{Frame, Value};
use crate::reports::report::{Context, Page, PageId, Report, Request, Results};
use crate::reports::retention::{Measure, Query, Window};
use crate::sets::{Catalogue, CountId, Set, Terms, TooLarge, UserId};

/// Which users of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The users that the cell counts.
    Returned,
    /// The users of the cohort that the cell does not count.
    Lost,
    /// All users of the cohort.
    Cohort,
}

impl Who {
    /// All choices, in the order of the page.
    pub const ALL: [Who; 3] = [Who::Returned, Who::Lost, Who::Cohort];

    /// `returned`, `lost` or `cohort`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Who::Returned => "returned",
            Who::Lost => "lost",
            Who::Cohort => "cohort",
        }
    }
}

impl FromStr for Who {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Who::ALL.into_iter().find(|who| who.as_str() == text);
        known.ok_or_else(|| QueryError::Word {
            given: text.to_owned(),
            known: &["returned", "lost", "cohort"],
        })
    }
}

/// Why a table has no such cell.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CellMembersError {
    /// A period of another length than the table's.
    #[error("{given} is a {}, and the cohorts are {}: name the {wanted}", given.grain(), wanted.adjective())]
    Grain {
        /// The period given.
        given: Period,
        /// The table's grain.
        wanted: Grain,
    },
    /// A cohort of the future.
    #[error("{given} has not begun: the running {} is {current}", given.grain())]
    Future {
        /// The period given.
        given: Period,
        /// The running period.
        current: Period,
    },
    /// A column that the table does not have.
    #[error("column {column} is not in the table: it has 0 to {}", cols.saturating_sub(1))]
    Column {
        /// The column given.
        column: u32,
        /// How many there are.
        cols: u32,
    },
    /// A cell of the future.
    #[error("{} {column} of the cohort {cohort} has not begun", cohort.grain())]
    NotBegun {
        /// The column given.
        column: u32,
        /// The cohort.
        cohort: Period,
    },
    /// A cohort or a cell without data.
    #[error("{given} is not recorded: {}", extent_words(*.extent))]
    NotRecorded {
        /// The first period without data.
        given: Period,
        /// The first and the last recorded period.
        extent: Option<(Period, Period)>,
        /// Whether the period is that of the return, not the cohort's.
        is_column: bool,
    },
    /// A moment outside the supported years.
    #[error(transparent)]
    Calendar(#[from] CalendarError),
    /// The segments are too long for so many periods.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl CellMembersError {
    /// Whether the error is about the column instead of the cohort.
    pub const fn is_column(&self) -> bool {
        matches!(
            self,
            CellMembersError::Column { .. }
                | CellMembersError::NotBegun { .. }
                | CellMembersError::NotRecorded {
                    is_column: true,
                    ..
                }
        )
    }
}

fn extent_words(extent: Option<(Period, Period)>) -> String {
    match extent {
        Some((first, last)) => format!("there is data from {first} to {last}"),
        None => "there is no data of that length of time".to_owned(),
    }
}

/// Returns the state of the count of a set with these periods, in a store with this coverage.
/// `None` without periods, as for undated bitmaps. The first that applies: future, not recorded,
/// partly recorded, in progress, complete. If none of the periods is recorded, users of the set
/// come from undated bitmaps, and the count is partly recorded.
///
/// ```
/// use cohortist::calendar::parse_moment;
/// use cohortist::reports::{coverage::{Coverage, State}, people::state_of};
/// use cohortist::sets::{EventName, Key};
/// let active = EventName::new("active")?;
/// let keys: Vec<Key> = Key::of_mark(&active, parse_moment("2026-11-26")?, false)?.collect();
/// let coverage = Coverage::of(&keys, parse_moment("2026-12-01")?, false)?;
/// let state = |count: u64, periods: &[&str]| {
///     state_of(count, &periods.iter().map(|period| period.parse().unwrap()).collect::<Vec<_>>(), &coverage)
/// };
/// assert_eq!(state(0, &["2026-11-29"]), Some(State::NotRecorded));
/// assert_eq!(state(7, &["2026-11-29"]), Some(State::PartlyRecorded));
/// assert_eq!(state(1, &["2026-11-26", "2026-11-29"]), Some(State::PartlyRecorded));
/// assert_eq!(state(1, &["2026-11-26"]), Some(State::InProgress));
/// assert_eq!(state(0, &["2026-12-02"]), Some(State::Future));
/// assert_eq!(state(0, &[]), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn state_of(count: u64, periods: &[Period], coverage: &Coverage) -> Option<State> {
    let states: Vec<State> = periods
        .iter()
        .map(|period| coverage.state_of(*period))
        .collect();
    let any = |wanted: State| states.contains(&wanted);
    let begun = || states.iter().filter(|state| **state != State::Future);
    Some(match () {
        () if states.is_empty() => return None,
        () if begun().next().is_none() => State::Future,
        () if count == 0 && begun().all(|state| *state == State::NotRecorded) => State::NotRecorded,
        () if any(State::NotRecorded) || any(State::PartlyRecorded) => State::PartlyRecorded,
        () if any(State::InProgress) || any(State::Future) => State::InProgress,
        () => State::Complete,
    })
}

/// A cohort as a set, and which of its users came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellMembers {
    /// When its users did the starting event.
    pub period: Period,
    /// Whether it can still grow.
    pub state: State,
    /// The people.
    pub cohort: Set,
    /// The users who came back and who did not, if a column was given.
    pub back: Option<ReturnWindow>,
}

/// Both sides of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnWindow {
    /// The cell's column.
    pub column: u32,
    /// When a return counts.
    pub window: Window,
    /// Those who came back.
    pub returned: Set,
    /// Those who did not.
    pub lost: Set,
}

impl CellMembers {
    /// Returns the users of a cohort, and of the cell in its `column`, in a store with this
    /// coverage. The counts of these sets equal the numbers of the
    /// [table](crate::reports::retention::Table) of the same query.
    ///
    /// ```
    /// use cohortist::calendar::{Grain, parse_moment};
    /// use cohortist::reports::{coverage::Coverage, people::CellMembers, retention::Query};
    /// use cohortist::sets::{Catalogue, SetContext, parse_set};
    /// let query = Query::new("signup".parse()?, "active".parse()?, Grain::Day);
    /// let coverage = Coverage::whole(parse_moment("2026-11-23")?)?;
    /// let none = Catalogue::default();
    /// let members = CellMembers::at(&query, "2026-11-20".parse()?, Some(2), &coverage, &none)?;
    /// let expected = parse_set("signup@2026-11-20 & active@2026-11-22", SetContext::empty())?;
    /// assert_eq!(members.back.unwrap().returned, expected);
    /// assert!(CellMembers::at(&query, "2026-11-20".parse()?, Some(4), &coverage, &none).is_err(), "that is tomorrow");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the table has no such cohort or cell, it has not begun, there is no data of it, or its
    /// segments are too long.
    pub fn at(
        query: &Query,
        period: Period,
        column: Option<u32>,
        coverage: &Coverage,
        catalogue: &Catalogue,
    ) -> Result<Self, CellMembersError> {
        let current = coverage.current(query.grain);
        if period.grain() != query.grain {
            return Err(CellMembersError::Grain {
                given: period,
                wanted: query.grain,
            });
        }
        if period > current {
            return Err(CellMembersError::Future {
                given: period,
                current,
            });
        }
        let recorded = |given: Period, state: State, is_column: bool| match state {
            State::NotRecorded => {
                let extent = coverage.first(query.grain).zip(coverage.last(query.grain));
                Err(CellMembersError::NotRecorded {
                    given,
                    extent,
                    is_column,
                })
            }
            state => Ok(state),
        };
        let state = recorded(period, coverage.state_of(period), false)?;
        let cohort = query.cohort.at(period, catalogue)?;
        let back = column.map(|column| {
            if column >= query.cols() {
                return Err(CellMembersError::Column {
                    column,
                    cols: query.cols(),
                });
            }
            let windows = query.windows(period, coverage);
            let not_begun = CellMembersError::NotBegun {
                column,
                cohort: period,
            };
            let window = usize::try_from(column)
                .ok()
                .and_then(|k| windows.get(k))
                .copied()
                .ok_or(not_begun)?;
            recorded(window.from, window.state, true)?;
            if query.is_whole_cohort(window.column) {
                return Ok(ReturnWindow {
                    column,
                    window,
                    returned: cohort.clone(),
                    lost: Set::Empty,
                });
            }
            let count = window.until.since(window.from);
            let count = count.and_then(|more| u32::try_from(more + 1).ok());
            let count = count.expect("a window does not end before it begins");
            let mut periods = Vec::new();
            let mut terms = Terms::default();
            for period in window.from.range(count) {
                // As in the table: where nothing is recorded nobody is known to have come back,
                // whatever the undated bitmaps say.
                let set = match coverage.is_recorded(period) {
                    true => query.returning.at(period, catalogue)?,
                    false if query.measure == Measure::Unbroken => Set::Empty,
                    false => continue,
                };
                terms.count(set.terms())?;
                periods.push(set);
            }
            let did = match (query.measure, periods.len()) {
                (_, 1) => periods.remove(0),
                (Measure::Unbroken, _) => Set::And(periods),
                _ => Set::Or(periods),
            };
            Ok(ReturnWindow {
                column,
                window,
                returned: cohort.clone() & did.clone(),
                lost: cohort.clone() - did,
            })
        });
        Ok(CellMembers {
            period,
            state,
            cohort,
            back: back.transpose()?,
        })
    }

    /// Returns the set of a choice. `None` without a column, except for the cohort.
    pub fn set(&self, who: Who) -> Option<&Set> {
        match who {
            Who::Cohort => Some(&self.cohort),
            Who::Returned => self.back.as_ref().map(|back| &back.returned),
            Who::Lost => self.back.as_ref().map(|back| &back.lost),
        }
    }
}

/// Asks for the users of a set: their number, and one page of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct People {
    /// The set as it was written.
    pub text: String,
    /// The set.
    pub set: Set,
    /// The periods it is tied to.
    pub periods: Vec<Period>,
    /// The zone of those periods.
    pub zone: Zone,
    /// Only users greater than this one.
    pub after: Option<UserId>,
    /// At most this many.
    pub limit: usize,
}

/// A planned [`People`].
#[derive(Debug, Clone)]
pub struct PeopleQuestion {
    people: People,
    coverage: Coverage,
    may_include_later_marks: bool,
    count: CountId,
    page: PageId,
}

/// The users of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeopleList {
    /// The set as it was written.
    pub text: String,
    /// How many users it has in all.
    pub count: u64,
    /// Whether the count is known and final. `None` for undated sets.
    pub state: Option<State>,
    /// Whether the list may include users because of marks after a chosen *now*.
    pub may_include_later_marks: bool,
    /// If it is not recorded: the periods without data.
    pub unrecorded: Vec<Period>,
    /// When the data ends, if before now.
    pub data_ends: Option<Period>,
    /// The zone of its periods.
    pub zone: Zone,
    /// One page of the users, in ascending order.
    pub users: Vec<UserId>,
    /// Whether there are more after this page.
    pub has_more: bool,
}

impl Report for People {
    type Planned = PeopleQuestion;
    type Answer = PeopleList;

    fn zone(&self) -> Option<Zone> {
        Some(self.zone)
    }

    fn plan(
        &self,
        request: &mut Request,
        context: &Context<'_>,
    ) -> Result<PeopleQuestion, QueryError> {
        let keys = self.set.keys();
        let mut names: Vec<_> = keys.iter().map(|key| key.event()).collect();
        names.dedup();
        let coverage = context.covering(&names);
        Ok(PeopleQuestion {
            may_include_later_marks: context.may_include_later(names, &self.periods),
            count: request.plan.count_set(&self.set)?,
            page: request.page(Page {
                set: self.set.clone(),
                after: self.after,
                limit: self.limit.saturating_add(1),
            }),
            coverage,
            people: self.clone(),
        })
    }

    fn answer(planned: PeopleQuestion, results: &Results) -> PeopleList {
        let PeopleQuestion {
            people, coverage, ..
        } = planned;
        let count = results.counts[planned.count];
        let mut users = results.page(planned.page).to_vec();
        let has_more = users.len() > people.limit;
        users.truncate(people.limit);
        let state = state_of(count, &people.periods, &coverage);
        let mut unrecorded = people.periods;
        unrecorded.retain(|period| {
            state == Some(State::NotRecorded) && coverage.state_of(*period) == State::NotRecorded
        });
        PeopleList {
            state,
            may_include_later_marks: planned.may_include_later_marks,
            unrecorded,
            data_ends: coverage.data_ends(Grain::Day),
            zone: coverage.zone(),
            text: people.text,
            count,
            users,
            has_more,
        }
    }
}

/// A list of users with their ids as people know them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPeople {
    /// The list.
    pub list: PeopleList,
    /// The ids, in the order of the list.
    pub ids: Vec<String>,
    /// Whether the ids are strings.
    pub are_strings: bool,
    /// Names in the set that were never recorded.
    pub never_recorded: Vec<String>,
}

impl Exports for NamedPeople {
    fn title(&self) -> String {
        format!("People in {}", self.list.text)
    }

    fn name(&self) -> Vec<String> {
        vec!["people".to_owned(), self.list.text.clone()]
    }

    fn calendar(&self) -> Calendar {
        Calendar {
            zone: self.list.zone,
            ..Calendar::default()
        }
    }

    fn unrecorded(&self) -> Option<(&str, &[Period])> {
        let list = &self.list;
        (!list.unrecorded.is_empty()).then_some((list.text.as_str(), list.unrecorded.as_slice()))
    }

    fn wide(&self) -> Frame {
        self.tidy()
    }

    fn tidy(&self) -> Frame {
        let mut frame = Frame::new(["user_id"]);
        for id in &self.ids {
            frame.push(vec![Value::Text(id.clone())]);
        }
        frame
    }

    fn json(&self) -> String {
        let list = &self.list;
        let user = |(id, user): (&String, &UserId)| {
            if self.are_strings {
                json!(id)
            } else {
                json!(user)
            }
        };
        let users: Vec<_> = self.ids.iter().zip(&list.users).map(user).collect();
        let is_known = list.state != Some(State::NotRecorded);
        let object = json!({
            "set": list.text,
            "zone": list.zone.name(),
            "count": is_known.then_some(list.count),
            "state": list.state.map(State::as_str),
            "may_include_later_marks": list.may_include_later_marks,
            "data_ends": list.data_ends.map(|period| period.to_string()),
            "next": users.last().filter(|_| list.has_more),
            "users": users,
            "never_recorded": self.never_recorded,
        });
        object.to_string()
    }

    fn is_empty(&self) -> bool {
        self.list.count == 0
    }
}
