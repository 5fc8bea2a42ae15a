//! `/people`: who is behind a cell of the table, or in any set; and `/people.csv`: all of them.

use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use chrono::{DateTime, Utc};
use url::form_urlencoded;

use crate::calendar::{Grain, Period};
use crate::render::{self, thousands, words};
use crate::reports::people::{Crowd, CrowdError, Who};
use crate::reports::retention::{Query, State as Progress};
use crate::sets::{EventName, Segments, Set, UserId, parse_set};
use crate::tracker::Members;
use crate::web::error::{WebError, answer};
use crate::web::pages::{Shell, home};
use crate::web::query::{Asked, Field, Problem, Typed};
use crate::web::{State, block};

/// How many ids stand on a page.
const PAGE: usize = 100;

/// How many ids a piece of the CSV file holds.
const PIECE: usize = 65_536;

/// What was typed, as it was typed; blank fields are empty.
#[derive(Debug, Default)]
struct Given {
    question: Typed,
    /// The whole query string.
    query: String,
    at: String,
    column: String,
    who: String,
    set: String,
    after: String,
}

impl Given {
    fn read(query: &str) -> Self {
        let mut given = Given { question: Typed::read(query), query: query.to_owned(), ..Given::default() };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let field = match &*name {
                "at" => &mut given.at,
                "k" => &mut given.column,
                "who" => &mut given.who,
                "set" => &mut given.set,
                "after" => &mut given.after,
                _ => continue,
            };
            value.trim().clone_into(field);
        }
        given
    }

    /// What is wanted, when every field is right; `None` when nothing was asked.
    fn check(&self, now: DateTime<Utc>) -> Result<Option<Wanted>, Vec<Problem>> {
        let after = match self.after.as_str() {
            "" => None,
            text => Some(text.parse::<UserId>().map_err(|_| wrong(Field::After, "that is no user id"))?),
        };
        let whom = if !self.set.is_empty() {
            let set = parse_set(&self.set, &Segments::default()).map_err(|error| {
                let message = error.to_string();
                vec![Problem { field: Field::Set, message, column: Some(error.column) }]
            })?;
            Whom::Set { text: self.set.clone(), set }
        } else if self.at.is_empty() && self.question.asks_nothing() {
            return Ok(None);
        } else {
            self.cell(now)?
        };
        Ok(Some(Wanted { whom, after }))
    }

    fn cell(&self, now: DateTime<Utc>) -> Result<Whom, Vec<Problem>> {
        let asked = self.question.check()?;
        let query = asked.query();
        query.at(now).map_err(|error| vec![Problem::of_query(&error)])?;
        let at = self.at.parse::<Period>().map_err(|error| wrong(Field::At, error))?;
        let column = match self.column.as_str() {
            "" => None,
            text => Some(text.parse::<u32>().map_err(|_| wrong(Field::Column, "ask for a whole number from 0 on"))?),
        };
        let who = match self.who.as_str() {
            "" if column.is_none() => Who::Cohort,
            "" => Who::Returned,
            word => word.parse().map_err(|error| wrong(Field::Who, error))?,
        };
        let crowd = Crowd::at(&query, at, column, now).map_err(|error: CrowdError| {
            let field = if error.is_column() { Field::Column } else { Field::At };
            wrong(field, error)
        })?;
        let Some(set) = crowd.set(who).cloned() else {
            return Err(wrong(Field::Column, "name the column, k=1, whose people you want"));
        };
        Ok(Whom::Cell(Box::new(Cell { asked, query, crowd, who, set })))
    }
}

fn wrong(field: Field, message: impl ToString) -> Vec<Problem> {
    vec![Problem::new(field, message.to_string())]
}

/// People, and which page of them.
struct Wanted {
    whom: Whom,
    after: Option<UserId>,
}

/// Whose ids are wanted.
enum Whom {
    /// Some of a cohort.
    Cell(Box<Cell>),
    /// Those in a set.
    Set { text: String, set: Set },
}

/// Some of a cohort.
struct Cell {
    asked: Asked,
    query: Query,
    crowd: Crowd,
    who: Who,
    set: Set,
}

impl Cell {
    fn link(&self, who: Who) -> String {
        let column = self.crowd.back.as_ref().map_or_else(String::new, |back| format!("&k={}", back.column));
        format!("{}&at={}{column}&who={}", self.asked.canonical(), self.crowd.period, who.as_str())
    }
}

impl Whom {
    fn set(&self) -> &Set {
        match self {
            Whom::Cell(cell) => &cell.set,
            Whom::Set { set, .. } => set,
        }
    }

    /// The one query string for these people.
    fn canonical(&self) -> String {
        match self {
            Whom::Cell(cell) => cell.link(cell.who),
            Whom::Set { text, .. } => set_query(text),
        }
    }

    fn file_name(&self) -> String {
        let stem = match self {
            Whom::Cell(cell) => render::people_file_stem(&cell.query, &cell.crowd, cell.who),
            Whom::Set { text, .. } => render::set_file_stem(text),
        };
        format!("{stem}.csv")
    }
}

/// `set=…`, escaped.
fn set_query(text: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair("set", text).finish()
}

/// The address of the people in a set.
pub(super) fn link(set: &str) -> String {
    format!("/people?{}", set_query(set))
}

/// One of the three lists of a cell.
struct Tab {
    label: &'static str,
    count: String,
    href: String,
    here: bool,
}

/// A list of people.
struct List {
    heading: String,
    /// Why the numbers can still change.
    running: Option<String>,
    /// Names in the set that were never recorded, with those perhaps meant.
    unknown: Vec<String>,
    back: Option<String>,
    tabs: Vec<Tab>,
    total: String,
    users: Vec<UserId>,
    /// Whether this is all of them.
    whole: bool,
    first: Option<String>,
    next: Option<String>,
    csv: String,
}

#[derive(Template)]
#[template(path = "people.html")]
struct Page {
    shell: Shell,
    title: String,
    /// What stands in the field.
    typed: String,
    /// What is wrong with it.
    wrong: Option<String>,
    /// What is wrong with an address that nobody typed into a field.
    problems: Vec<Problem>,
    /// The table of the same question, whose form can mend it.
    table: String,
    /// Sets to try, with their addresses.
    examples: Vec<(String, String)>,
    list: Option<List>,
}

/// `/people`
pub async fn page(request: HttpRequest, state: Data<State>) -> HttpResponse {
    let given = Given::read(request.query_string());
    let written = block(&state, move |state| written(state, &given)).await;
    let html = |(status, html): (StatusCode, String)| {
        HttpResponse::build(status).insert_header((CONTENT_TYPE, "text/html; charset=utf-8")).body(html)
    };
    answer(&request, written.map(html))
}

fn written(state: &State, given: &Given) -> Result<(StatusCode, String), WebError> {
    let (events, store) = (state.tracker.events("")?, state.tracker.describe()?);
    let mut page = Page {
        shell: Shell::new(&store, &events),
        title: "People".to_owned(),
        typed: given.set.clone(),
        wrong: None,
        problems: Vec::new(),
        table: format!("/retention?{}", given.query),
        examples: Vec::new(),
        list: None,
    };
    let status = match given.check(state.clock.now()) {
        Ok(Some(wanted)) => {
            let list = list(state, &wanted, &events)?;
            page.title = list.heading.clone();
            page.list = Some(list);
            StatusCode::OK
        }
        Ok(None) => {
            page.examples = examples(&events, state.clock.now());
            StatusCode::OK
        }
        Err(problems) => {
            let (set, others) = problems.into_iter().partition::<Vec<_>, _>(|p| p.field == Field::Set);
            page.wrong = set.into_iter().next().map(|problem| problem.message);
            page.problems = others;
            StatusCode::BAD_REQUEST
        }
    };
    Ok((status, page.render()?))
}

fn list(state: &State, wanted: &Wanted, events: &[EventName]) -> Result<List, WebError> {
    let set = wanted.whom.set();
    let mut users = state.tracker.store().members(set, wanted.after, PAGE + 1).map_err(WebError::Store)?;
    let more = users.len() > PAGE;
    users.truncate(PAGE);
    let canonical = wanted.whom.canonical();
    let next = users.last().filter(|_| more).map(|last| format!("/people?{canonical}&after={last}"));
    let mut list = List {
        heading: String::new(),
        running: None,
        unknown: Vec::new(),
        back: None,
        tabs: Vec::new(),
        total: String::new(),
        users,
        whole: wanted.after.is_none() && !more,
        first: wanted.after.is_some().then(|| format!("/people?{canonical}")),
        next,
        csv: format!("/people.csv?{canonical}"),
    };
    match &wanted.whom {
        Whom::Set { text, set } => {
            let count = state.tracker.count(set)?;
            list.total = words::people(count);
            list.heading = format!("{} in {text}", words::people(count));
            for name in state.tracker.never_recorded(set.keys().into_iter().map(|key| key.event()))? {
                let meant: Vec<String> = name.similar(events).into_iter().map(|n| format!("“{n}”")).collect();
                let hint = if meant.is_empty() { String::new() } else { format!(" Perhaps {}?", meant.join(" or ")) };
                list.unknown.push(format!("Nothing was ever recorded for “{name}”.{hint}"));
            }
        }
        Whom::Cell(cell) => {
            let sets = Who::ALL.map(|who| cell.crowd.set(who).unwrap_or(&cell.crowd.cohort));
            let counts = state.tracker.counts(sets)?;
            let count = |who: Who| counts.get(who as usize).copied().unwrap_or(0);
            list.total = words::people(count(cell.who));
            list.heading = words::crowd(&cell.query, &cell.crowd, cell.who, count(Who::Cohort), count(cell.who));
            list.running = running(cell);
            list.back = Some(format!("/retention?{}", cell.asked.canonical()));
            if cell.crowd.back.is_some() {
                list.tabs = Who::ALL
                    .map(|who| Tab {
                        label: match who {
                            Who::Returned => "Came back",
                            Who::Lost => "Did not come back",
                            Who::Cohort => "Whole cohort",
                        },
                        count: thousands(count(who)),
                        href: format!("/people?{}", cell.link(who)),
                        here: who == cell.who,
                    })
                    .into();
            }
        }
    }
    Ok(list)
}

/// Why the people of a cell can still change.
fn running(cell: &Cell) -> Option<String> {
    let grain = cell.query.grain;
    if cell.crowd.state == Progress::InProgress {
        return Some(format!("So far: this {grain} is still in progress, and the cohort may grow."));
    }
    let window = cell.crowd.back.as_ref().filter(|_| cell.who != Who::Cohort)?.window;
    (window.state == Progress::InProgress)
        .then(|| format!("So far: {} is still in progress, and more may come back.", window.until.label()))
}

/// Sets to try, of events there are.
fn examples(events: &[EventName], now: DateTime<Utc>) -> Vec<(String, String)> {
    let Some(asked) = home::default_question(events) else { return Vec::new() };
    let [Ok(day), Ok(week), Ok(month)] = [Grain::Day, Grain::Week, Grain::Month].map(|g| Period::containing(g, now))
    else {
        return Vec::new();
    };
    let (cohort, returning) = (&asked.cohort, &asked.returning);
    let sets = [
        format!("{returning}@{day}"),
        format!("{returning}@{month} & !{returning}@{week}"),
        format!("({cohort} & {returning})@{month}"),
    ];
    sets.map(|set| (link(&set), set)).into()
}

/// `/people.csv`
pub async fn file(request: HttpRequest, state: Data<State>) -> HttpResponse {
    let given = Given::read(request.query_string());
    let head = request.method() == Method::HEAD;
    // The first piece is read before anything is said, so that a store that is away is a 503.
    let begun = block(&state, move |state| {
        let nothing = || WebError::Query(wrong(Field::Set, "write a set, such as `active@2026-11-23`"));
        let wanted = given.check(state.clock.now()).map_err(WebError::Query)?.ok_or_else(nothing)?;
        let members = state.tracker.members(wanted.whom.set());
        let members = if let Some(after) = wanted.after { members.after(after) } else { members };
        let (members, first) = if head { (members, Bytes::new()) } else { piece(members, "user_id\n")? };
        Ok((wanted.whom.file_name(), members, first))
    });
    let begun = begun.await.map(|(name, members, first)| {
        let rest = Lines {
            state: Data::clone(&state),
            first: Some(first).filter(|first| !first.is_empty()),
            members: (!head).then_some(members),
            reading: None,
        };
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/csv; charset=utf-8; header=present"))
            .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")))
            .body(rest)
    });
    answer(&request, begun)
}

/// The next ids, one a line, behind some text. Without any, the list is at its end.
fn piece(mut members: Members, before: &str) -> Result<(Members, Bytes), WebError> {
    let mut text = before.to_owned();
    for user in members.by_ref().take(PIECE) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", user?);
    }
    Ok((members, text.into()))
}

/// A piece being read.
type Reading = Pin<Box<dyn Future<Output = Result<(Members, Bytes), WebError>>>>;

/// A list of ids that is read as fast as the client takes it, one piece in memory. When the store fails on the way the
/// answer is broken off, which every client can tell from its end.
struct Lines {
    state: Data<State>,
    first: Option<Bytes>,
    members: Option<Members>,
    reading: Option<Reading>,
}

impl MessageBody for Lines {
    type Error = WebError;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, WebError>>> {
        let lines = self.get_mut();
        if let Some(first) = lines.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let reading = match (&mut lines.reading, lines.members.take()) {
            (Some(reading), _) => reading,
            (none, Some(members)) => {
                let state = Data::clone(&lines.state);
                none.insert(Box::pin(async move { block(&state, move |_| piece(members, "")).await }))
            }
            (None, None) => return Poll::Ready(None),
        };
        let read = ready!(reading.as_mut().poll(context));
        lines.reading = None;
        Poll::Ready(match read {
            Ok((_, bytes)) if bytes.is_empty() => None,
            Ok((members, bytes)) => {
                lines.members = Some(members);
                Some(Ok(bytes))
            }
            Err(error) => {
                tracing::error!("a list of people was broken off: {error}");
                Some(Err(error))
            }
        })
    }
}
