//! `/people`: the users of a cell of the table or of any set, and `/people.csv`: all of them as a
//! file.

use std::sync::Arc;

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;
use futures_util::{StreamExt, stream};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use crate::calendar::{Calendar, Grain, Period, Zone};
use crate::render::{self, FileName, thousands, words};
use crate::reports::coverage::{Coverage, State as Progress};
use crate::reports::people::{CellMembers, CellMembersError, ReturnWindow, Who, state_of};
use crate::reports::retention::{Measure, Query};
use crate::reports::spans::Running;
use crate::server::admission::Patience;
use crate::server::arrival::body;
use crate::server::client::is_own_page;
use crate::server::error::WebError;
use crate::server::pages::form::place as place_of;
use crate::server::pages::notices::MAX_LISTED;
use crate::server::pages::set_notices::{cell_notice, set_notices};
use crate::server::pages::user::{self, Linked};
use crate::server::pages::{home, links};
use crate::server::query::{Field, PageQuery, Problem, RawQuery};
use crate::server::respond::{answer, disposition, html};
use crate::server::view::state_and_path;
use crate::server::work::{admitted, block, changed};
use crate::server::{Layout, State, View};
use crate::sets::{
    Catalogue, EventName, Segment, Set, SetContext, SyntaxError, UserId, parse_set, set_periods,
    set_reads_catalogue,
};
use crate::stats::{rate, wilson};
use crate::store::Saved;
use crate::tracker::{Members, Tracker, Written};

/// The maximum length of a form's body, in bytes. It has one field.
const MAX_FORM: usize = 1 << 20;

/// The value of `saved` in an address if a power failure may lose the saved people.
const UNSYNCED: &str = "unsynced";

/// The number of ids per page.
const PAGE: usize = 100;

/// The first line of the CSV file.
const HEAD_LINE: &str = "user_id\n";

/// The number of ids in a chunk of the CSV file.
const PIECE: usize = 65_536;

/// The fields as given; blank ones are empty.
#[derive(Debug, Default)]
struct Given {
    question: RawQuery,
    /// The whole query string.
    query: String,
    at: String,
    column: String,
    who: String,
    set: String,
    /// What is wrong with a label in the set.
    ambiguous: Option<Problem>,
    after: String,
    /// Whether the people were just saved.
    saved: bool,
    /// Whether a power failure may lose the saved people.
    unsynced: bool,
}

impl Given {
    fn read(query: &str) -> Self {
        let mut given = Given {
            question: RawQuery::read(query),
            query: query.to_owned(),
            ..Given::default()
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if name == "saved" {
                (given.saved, given.unsynced) = (true, value == UNSYNCED);
            }
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

    /// Reads a query string, with names in place of labels.
    fn of(view: &View, query: &str) -> Self {
        let mut given = Given::read(query);
        given.question = view.raw_query(query);
        match view.resolved(&given.set) {
            Ok(set) => given.set = set,
            Err(problem) => given.ambiguous = Some(problem),
        }
        given
    }

    /// Returns the request if every field is valid. `None` without fields.
    fn check(&self, state: &State) -> Result<Option<Wanted>, Invalid> {
        if let Some(problem) = &self.ambiguous {
            return Err(vec![problem.clone()].into());
        }
        let after = match self.after.as_str() {
            "" => None,
            text => Some(
                text.parse::<UserId>()
                    .map_err(|_| wrong(Field::After, "not a valid user id"))?,
            ),
        };
        let whom = if !self.set.is_empty() {
            let in_set = |error: SyntaxError| {
                let message = error.to_string();
                vec![Problem {
                    field: Field::Set,
                    message,
                    column: Some(error.column),
                }]
            };
            let reads = set_reads_catalogue(&self.set, state.tracker.segments());
            let catalogue = catalogue(state, reads.map_err(in_set)?)?;
            let zone = match state.calendar(&self.query) {
                Ok(calendar) => calendar.zone,
                Err(WebError::Query(problems)) => return Err(problems.into()),
                Err(_) => state.own_zone(),
            };
            let context = SetContext {
                zone,
                ..state.sets(&catalogue)
            };
            let set = parse_set(&self.set, context).map_err(in_set)?;
            Whom::Set {
                text: self.set.clone(),
                set,
                zone,
            }
        } else if self.at.is_empty() && self.question.asks_nothing() {
            return Ok(None);
        } else {
            self.cell(state)?
        };
        Ok(Some(Wanted { whom, after }))
    }

    fn cell(&self, state: &State) -> Result<Whom, Invalid> {
        let asked = self.question.check()?;
        let now = state.now();
        let query = Query {
            zone: match state.tracker.in_zone(asked.bare.zone) {
                Ok(zone) => zone,
                Err(crate::Error::Query(error)) => {
                    return Err(vec![Problem::of_query(&error)].into());
                }
                // An unreachable store is reported when its people are read.
                Err(_) => asked.bare.zone,
            },
            ..asked.query()
        };
        // Counts need expanded segments; texts name the saved ones.
        let segments = state.tracker.segments();
        let sides = [&query.cohort, &query.returning];
        let reads = sides.into_iter().any(|side| segments.read_catalogue(side));
        let catalogue = catalogue(state, reads)?;
        let counted = query
            .expanded(state.sets(&catalogue))
            .map_err(|error| vec![Problem::of_query(&error.into())])?;
        counted
            .check(now)
            .map_err(|error| vec![Problem::of_query(&error)])?;
        let at = self
            .at
            .parse::<Period>()
            .and_then(|at| query.zone.same_named(at))
            .map_err(|error| wrong(Field::At, error))?;
        // Any date names the period that contains it.
        let at = match (at.grain(), query.grain) {
            (Grain::Day, Grain::Week(_) | Grain::Month | Grain::Year) => at.within(query.grain),
            _ => at,
        };
        let column = match self.column.as_str() {
            "" => None,
            text => Some(
                text.parse::<u32>()
                    .map_err(|_| wrong(Field::Column, "ask for a whole number from 0 on"))?,
            ),
        };
        let who = match self.who.as_str() {
            "" if column.is_none() => Who::Cohort,
            "" => Who::Returned,
            word => word.parse().map_err(|error| wrong(Field::Who, error))?,
        };
        // An unreachable store is reported when its people are read.
        let coverage = state
            .coverage_of(&counted)
            .or_else(|_| Coverage::whole_in(query.zone, now))
            .map_err(|error| wrong(Field::At, error))?;
        let members = CellMembers::at(&counted, at, column, &coverage, &catalogue).map_err(
            |error: CellMembersError| {
                let field = if error.is_column() {
                    Field::Column
                } else {
                    Field::At
                };
                wrong(field, error)
            },
        )?;
        let Some(set) = members.set(who).cloned() else {
            return Err(wrong(Field::Column, "name a column, such as k=1").into());
        };
        Ok(Whom::Cell(Box::new(Cell {
            asked,
            query,
            members,
            who,
            set,
        })))
    }
}

/// Returns the store's list of bitmaps if it is needed.
fn catalogue(state: &State, is_read: bool) -> Result<Arc<Catalogue>, crate::Error> {
    match is_read {
        true => state.tracker.catalogue(),
        false => Ok(Arc::default()),
    }
}

/// Why there is no list of people.
enum Invalid {
    /// Fields are not valid.
    Fields(Vec<Problem>),
    /// Functions or patterns could not be evaluated.
    Store(crate::Error),
}

impl From<Vec<Problem>> for Invalid {
    fn from(problems: Vec<Problem>) -> Self {
        Invalid::Fields(problems)
    }
}

impl From<crate::Error> for Invalid {
    fn from(error: crate::Error) -> Self {
        Invalid::Store(error)
    }
}

impl From<Invalid> for WebError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Fields(problems) => WebError::Query(problems),
            Invalid::Store(error) => error.into(),
        }
    }
}

fn wrong(field: Field, message: impl ToString) -> Vec<Problem> {
    vec![Problem::new(field, message.to_string())]
}

/// A list of people, and its page.
struct Wanted {
    whom: Whom,
    after: Option<UserId>,
}

/// The people of a list.
enum Whom {
    /// People of a cell.
    Cell(Box<Cell>),
    /// The users in a set.
    Set {
        text: String,
        set: Set,
        /// The zone of its periods.
        zone: Zone,
    },
}

/// People of a cell.
struct Cell {
    asked: PageQuery,
    query: Query,
    members: CellMembers,
    who: Who,
    set: Set,
}

/// Returns the text of a segment in a period.
fn tied(segment: &Segment, period: Period) -> String {
    match segment {
        Segment::Ever(_) => segment.to_string(),
        Segment::Event(_) => format!("{segment}@{period}"),
        _ => format!("({segment})@{period}"),
    }
}

impl Cell {
    /// Returns the people as the text of a set, if there is one that says the same.
    fn text(&self, context: SetContext<'_>) -> Option<String> {
        let cohort = tied(&self.query.cohort, self.members.period);
        let text = match self
            .members
            .back
            .as_ref()
            .filter(|_| self.who != Who::Cohort)
        {
            None => cohort,
            Some(back) => {
                let came = self.came_back(back)?;
                format!(
                    "{cohort} & {}{came}",
                    if self.who == Who::Lost { "!" } else { "" }
                )
            }
        };
        let context = SetContext {
            zone: self.query.zone,
            ..context
        };
        parse_set(&text, context).is_ok().then_some(text)
    }

    /// Returns those who came back, of the cohort or not, as the text of a set: `active@2026-11-24`,
    /// or of several periods `within(active, 2..7)@2026-11-22`. `None` where a set says something
    /// else than the cell: of the whole cohort, and where periods are not recorded.
    fn came_back(&self, back: &ReturnWindow) -> Option<String> {
        let window = back.window;
        let returning = &self.query.returning;
        if self.query.is_whole_cohort(window.column) {
            return None;
        }
        if window.until == window.from {
            return Some(tied(returning, window.from));
        }
        if window.state == Progress::PartlyRecorded {
            return None;
        }
        let cohort = self.members.period;
        let [from, until] = [window.from, window.until].map(|period| period.since(cohort));
        let (from, until) = from.zip(until)?;
        Some(match self.query.measure {
            Measure::Unbroken => {
                let all = until - from + 1;
                format!("atleast({all}, {returning}, {from}..{until})@{cohort}")
            }
            _ => format!("within({returning}, {from}..{until})@{cohort}"),
        })
    }

    fn link(&self, who: Who) -> String {
        let column = self
            .members
            .back
            .as_ref()
            .map_or_else(String::new, |back| format!("&k={}", back.column));
        format!(
            "{}&at={}{column}&who={}",
            self.asked.canonical(),
            links::escaped(&self.members.period.to_string()),
            who.as_str()
        )
    }
}

impl Whom {
    fn set(&self) -> &Set {
        match self {
            Whom::Cell(cell) => &cell.set,
            Whom::Set { set, .. } => set,
        }
    }

    /// Returns the canonical query string of these people.
    fn canonical(&self, state: &State) -> String {
        match self {
            Whom::Cell(cell) => cell.link(cell.who),
            Whom::Set { text, zone, .. } => links::set_query(state, text, *zone),
        }
    }

    fn calendar(&self) -> Calendar {
        match self {
            Whom::Cell(cell) => cell.query.calendar(),
            Whom::Set { zone, .. } => Calendar {
                zone: *zone,
                ..Calendar::default()
            },
        }
    }

    fn file_name(&self) -> FileName {
        let name = match self {
            Whom::Cell(cell) => render::people_name(&cell.query, &cell.members, cell.who),
            Whom::Set { text, .. } => render::set_name(text),
        };
        name.ending("csv")
    }
}

/// One of the three lists of a cell.
struct Tab {
    label: &'static str,
    count: String,
    href: String,
    here: bool,
}

/// The form that saves a list as a segment.
struct Save {
    /// The address to send the form to.
    action: String,
    /// The value of the field.
    name: String,
    /// What is wrong with the value.
    wrong: Option<String>,
    /// `372 people`
    people: String,
}

/// A list of people.
struct List {
    heading: String,
    /// The heading in parts, and whether a part is a date, which must not wrap.
    pieces: Vec<(String, bool)>,
    /// The share of the cohort that came back, with its interval.
    share: Option<String>,
    /// Notices about numbers that can still change and periods that have not begun.
    notices: Vec<String>,
    /// Names in the set that were never recorded, with suggestions, or the address of all events
    /// without one.
    unknown: Vec<(String, Option<String>)>,
    back: Option<String>,
    tabs: Vec<Tab>,
    total: String,
    users: Vec<Linked>,
    /// Whether the list has no users, on this page or any other.
    empty: bool,
    /// Whether the store has no data for the set's periods.
    unrecorded: bool,
    /// Whether this page shows all users.
    whole: bool,
    first: Option<String>,
    next: Option<String>,
    csv: String,
    save: Option<Save>,
    /// A question about the people just saved: the segment and the address.
    saved: Option<(String, String)>,
}

#[derive(Template)]
#[template(path = "people.html")]
struct Page {
    layout: Layout,
    title: String,
    /// The value of the field: as given, or the text of the cell's set.
    typed: String,
    /// The zone that the address names; empty if it names none.
    zone: String,
    /// What is wrong with it, and the text before, at and after the position.
    wrong: Option<(String, Option<[String; 3]>)>,
    /// Problems with an address that was not typed into a field.
    problems: Vec<Problem>,
    /// The table of the same question, whose form can fix them.
    table: String,
    /// Example sets with their addresses.
    examples: Vec<(String, String)>,
    list: Option<List>,
}

/// Expands a relative address below [`links::cells`].
fn of_cell(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("/people/")?.split('/');
    let question = parts.next()?;
    let first = parts.next()?;
    let cell = parts.next()?;
    let question = percent_decode_str(question).decode_utf8().ok()?;
    if let Some(column) = cell.strip_prefix("trend-") {
        return Some(format!(
            "/retention?{question}&trend={}#trend",
            column.parse::<u32>().ok()?
        ));
    }
    let (row, column) = cell
        .split_once('.')
        .map_or((cell, None), |(row, column)| (row, Some(column)));
    let first = percent_decode_str(first).decode_utf8().ok()?;
    let first = first.parse::<Period>().ok()?;
    let row = row.parse::<u32>().ok()?;
    let at = links::escaped(&first.shift(row.into()).ok()?.to_string());
    let column = match column {
        Some(column) => format!("&k={}", column.parse::<u32>().ok()?),
        None => String::new(),
    };
    Some(format!("/people?{question}&at={at}{column}"))
}

/// `/people/{question}/{first}/{cell}`: redirects to the page of a cell or a column.
pub async fn cell(request: HttpRequest) -> HttpResponse {
    let (state, path) = state_and_path(&request);
    let base = state.as_ref().map_or("", |state| state.base.as_str());
    let to = of_cell(path)
        .map(|to| format!("{base}{to}"))
        .ok_or(WebError::NotFound);
    // The decoded text may contain anything; only a valid header value is sent.
    let found = |to: String| {
        let to = HeaderValue::from_str(&to).map_err(|_| WebError::NotFound)?;
        Ok(HttpResponse::Found().insert_header((LOCATION, to)).finish())
    };
    answer(&request, to.and_then(found))
}

/// `/people`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let page = block(&request, |view| {
        render(view, &Given::of(view, view.query()), None)
    })
    .await;
    answer(&request, page.map(html))
}

/// A failed attempt to save people: the given name, and the reason.
struct Refused {
    name: String,
    why: String,
}

/// `POST /people?…` with `name=…`: saves the people of the address as the undated event of that
/// name.
pub async fn save(request: HttpRequest, payload: Payload) -> HttpResponse {
    match body(&request, payload, MAX_FORM).await {
        Ok(body) => saved(&request, &body).await,
        Err(error) => answer(&request, Err(error)),
    }
}

async fn saved(request: &HttpRequest, body: &[u8]) -> HttpResponse {
    let name = form_urlencoded::parse(body)
        .filter(|(name, _)| name == "name")
        .last();
    let name = name.map_or_else(String::new, |(_, name)| name.trim().to_owned());
    let own = is_own_page(request);
    let saved = block(request, move |view| {
        let given = Given::of(view, view.query());
        if view.read_only {
            return Err(WebError::Forbidden(
                "this dashboard is read-only: its pages cannot save".to_owned(),
            ));
        }
        if !own {
            return Err(WebError::Forbidden(
                "the form was not sent by a page of this dashboard".to_owned(),
            ));
        }
        let refused = |why: String| {
            render(
                view,
                &given,
                Some(Refused {
                    name: name.clone(),
                    why,
                }),
            )
            .map(Outcome::Page)
        };
        let Ok(Some(wanted)) = given.check(view) else {
            return render(view, &given, None).map(Outcome::Page);
        };
        let event = match EventName::new(&name) {
            Ok(event) => event,
            Err(error) => return refused(error.to_string()),
        };
        let taken = format!("“{event}” already exists and is not overwritten: choose another name");
        if view.tracker.segments().get(&event).is_some() {
            return refused(taken);
        }
        let Written { answer, warning } =
            changed(view.tracker.save_list(wanted.whom.set(), &event))?;
        match answer {
            Some(Saved::Taken) => return refused(taken),
            Some(Saved::Nobody) => {
                return refused("this list is empty now, so there is nothing to save".to_owned());
            }
            Some(Saved::People(count)) => {
                tracing::info!(event = event.as_str(), count, "people saved as a segment")
            }
            None => {}
        }
        let saved = if warning.is_some() { UNSYNCED } else { "1" };
        Ok(Outcome::Saved(format!(
            "{}&saved={saved}",
            links::people(view, &Segment::Ever(event).to_string(), view.own_zone())
        )))
    });
    answer(
        request,
        saved.await.map(|outcome| match outcome {
            Outcome::Saved(to) => HttpResponse::SeeOther()
                .insert_header((LOCATION, to))
                .finish(),
            Outcome::Page(page) => html(page),
        }),
    )
}

/// The result of saving.
enum Outcome {
    Saved(String),
    Page((StatusCode, String)),
}

fn render(
    view: &View,
    given: &Given,
    refused: Option<Refused>,
) -> Result<(StatusCode, String), WebError> {
    let checked = match given.check(view) {
        Ok(wanted) => Ok(wanted),
        Err(Invalid::Fields(problems)) => Err(problems),
        Err(Invalid::Store(error)) => return Err(error.into()),
    };
    let known = view
        .events()
        .and_then(|events| Ok((view.tracker.describe()?, events)));
    let (layout, events) = match known {
        Ok((store, events)) => (Layout::new(view, &store, Some(&events)), events),
        // Invalid fields are reported without reading the store.
        Err(_) if checked.is_err() => (Layout::bare(Some(view), &view.here), Vec::new()),
        Err(error) => return Err(error),
    };
    let mut page = Page {
        layout,
        title: "People".to_owned(),
        typed: given.set.clone(),
        zone: given.question.text("zone").to_owned(),
        wrong: None,
        problems: Vec::new(),
        table: view.to(&format!("/retention?{}", given.query)),
        examples: Vec::new(),
        list: None,
    };
    let status = match checked {
        Ok(Some(wanted)) => {
            let mut list = list(view, &wanted, &events)?;
            let status = if refused.is_some() {
                StatusCode::BAD_REQUEST
            } else {
                StatusCode::OK
            };
            if let (Some(save), Some(refused)) = (&mut list.save, refused) {
                (save.name, save.wrong) = (refused.name, Some(words::curly(&refused.why)));
            }
            if given.saved {
                list.saved = question_about(view, &given.set)?;
            }
            if given.unsynced {
                list.notices.push(
                    "The segment was saved, but the disk could not store it safely: a power cut may lose it. The server’s \
                     log says more."
                        .to_owned(),
                );
            }
            page.title = list.heading.clone();
            page.layout.calendar = wanted.whom.calendar();
            if let Whom::Cell(cell) = &wanted.whom {
                page.typed = cell
                    .text(view.sets(&*view.tracker.catalogue()?))
                    .unwrap_or_default();
            }
            page.typed = view.typed(&page.typed);
            page.list = Some(list);
            status
        }
        Ok(None) => {
            let zone = view.calendar(view.query())?.zone;
            page.examples = examples(view, &events, &view.coverage_in(zone)?);
            StatusCode::OK
        }
        Err(problems) => {
            let (set, others) = problems
                .into_iter()
                .partition::<Vec<_>, _>(|p| p.field == Field::Set);
            page.wrong = set.into_iter().next().map(|problem| {
                (
                    words::curly(&problem.message),
                    problem.column.map(|column| place_of(&given.set, column)),
                )
            });
            page.problems = others.into_iter().map(Problem::for_page).collect();
            StatusCode::BAD_REQUEST
        }
    };
    Ok((status, page.render()?))
}

fn list(view: &View, wanted: &Wanted, events: &[EventName]) -> Result<List, WebError> {
    let set = wanted.whom.set();
    let labels = &view.dashboard.glossary.labels;
    let mut users = view.tracker.members_after(set, wanted.after, PAGE + 1)?;
    let more = users.len() > PAGE;
    users.truncate(PAGE);
    let canonical = wanted.whom.canonical(view);
    let next = users
        .last()
        .filter(|_| more)
        .map(|last| view.to(&format!("/people?{canonical}&after={last}")));
    let mut list = List {
        heading: String::new(),
        pieces: Vec::new(),
        share: None,
        notices: Vec::new(),
        unknown: Vec::new(),
        back: None,
        tabs: Vec::new(),
        total: String::new(),
        users: user::linked(view, &users)?,
        empty: false,
        unrecorded: false,
        whole: wanted.after.is_none() && !more,
        first: wanted
            .after
            .is_some()
            .then(|| view.to(&format!("/people?{canonical}"))),
        next,
        csv: view.to(&format!("/people.csv?{canonical}")),
        save: None,
        saved: None,
    };
    let mut dates = Vec::new();
    let all = match &wanted.whom {
        Whom::Set { text, set, zone } => {
            let count = view.tracker.count(set)?;
            list.total = words::people(count);
            let periods = set_periods(text, *zone).expect("the text was parsed as a set");
            let coverage = view.coverage_of_set(set, *zone)?;
            list.unrecorded = state_of(count, &periods, &coverage) == Some(Progress::NotRecorded);
            list.heading = match list.unrecorded {
                true => format!("No data for people{}", words::of_set(text, labels, *zone)),
                false => format!(
                    "{}{}",
                    words::people(count),
                    words::of_set(text, labels, *zone)
                ),
            };
            let unknown = view
                .tracker
                .never_recorded(set.keys().into_iter().map(|key| key.event()))?;
            let more = unknown.len().saturating_sub(MAX_LISTED);
            for name in unknown.into_iter().take(MAX_LISTED) {
                let called = Segment::event(name).with_labels(labels);
                let meant: Vec<String> = name
                    .similar(events)
                    .into_iter()
                    .map(|n| format!("“{n}”"))
                    .collect();
                let hint = if meant.is_empty() {
                    String::new()
                } else {
                    format!(" Perhaps {}?", meant.join(" or "))
                };
                let all = meant.is_empty().then(|| view.to("/events"));
                list.unknown.push((
                    format!("Nothing was ever recorded for “{called}”.{hint}"),
                    all,
                ));
            }
            if more > 0 {
                let more = render::many(more as u64, "event");
                list.unknown
                    .push((format!("Nothing was ever recorded for {more} more."), None));
            }
            list.notices = set_notices(&periods, &coverage);
            list.notices.extend(later_notice(view, set, &periods)?);
            count
        }
        Whom::Cell(cell) => {
            // Without a column there is only the cohort.
            let sets = Who::ALL.map(|who| cell.members.set(who).unwrap_or(&cell.members.cohort));
            let counts = view.tracker.counts(sets)?;
            let count = |who: Who| counts[who as usize];
            list.total = words::people(count(cell.who));
            list.heading = words::cell_members(
                &cell.query,
                labels,
                &cell.members,
                cell.who,
                count(Who::Cohort),
                count(cell.who),
            );
            let back = cell.members.back.iter().map(|back| back.window);
            let periods = back.flat_map(|window| [window.from, window.until]);
            dates.push(words::full_label(cell.members.period));
            dates.extend(periods.map(words::full_label));
            let part = count(Who::Returned);
            let whole = count(Who::Cohort);
            let share = rate(part, whole)
                .zip(wilson(part, whole))
                .filter(|_| cell.who == Who::Returned);
            list.share = share.map(|(share, interval)| {
                format!(
                    "{} of the cohort (95% {})",
                    words::percent(share),
                    words::interval(interval)
                )
            });
            list.notices.extend(cell_notice(
                &cell.query,
                &cell.members,
                cell.who,
                &view.coverage_of(&cell.query)?,
            ));
            let windows = cell.members.back.iter().map(|back| back.window);
            let periods: Vec<Period> = windows
                .flat_map(|window| [window.from, window.until])
                .chain([cell.members.period])
                .collect();
            list.notices.extend(later_notice(view, set, &periods)?);
            list.back = Some(view.to(&format!("/retention?{}", cell.asked.canonical())));
            if cell.members.back.is_some() {
                list.tabs = Who::ALL
                    .map(|who| Tab {
                        label: match who {
                            Who::Returned => "Came back",
                            Who::Lost => "Did not come back",
                            Who::Cohort => "Whole cohort",
                        },
                        count: thousands(count(who)),
                        href: view.to(&format!("/people?{}", cell.link(who))),
                        here: who == cell.who,
                    })
                    .into();
            }
            count(cell.who)
        }
    };
    list.empty = all == 0;
    list.pieces = pieces(&list.heading, &dates);
    if all > 0 && !view.read_only {
        list.save = Some(Save {
            action: view.to(&format!("/people?{canonical}")),
            name: String::new(),
            wrong: None,
            people: words::people(all),
        });
    }
    Ok(list)
}

/// Reports that a list may include people because of marks after a chosen *now*.
fn later_notice(view: &View, set: &Set, periods: &[Period]) -> Result<Option<String>, WebError> {
    let later = words::includes_later(&view.later_in(set, periods)?, view.now());
    Ok(later.map(|later| format!("This list {later}.")))
}

/// Splits a text at its dates.
fn pieces(text: &str, dates: &[String]) -> Vec<(String, bool)> {
    let found = dates
        .iter()
        .filter_map(|date| Some((text.find(date.as_str())?, date)));
    match found.min() {
        Some((at, date)) => {
            let (before, rest) = text.split_at(at);
            let mut all = vec![(before.to_owned(), false), (date.clone(), true)];
            all.extend(pieces(rest.get(date.len()..).unwrap_or_default(), dates));
            all
        }
        None => vec![(text.to_owned(), false)],
    }
}

/// Returns the default question for the users in a segment.
fn question_about(view: &View, segment: &str) -> Result<Option<(String, String)>, WebError> {
    let Ok(filter) = segment.parse::<Segment>() else {
        return Ok(None);
    };
    let Some(mut asked) = home::default_question(view)? else {
        return Ok(None);
    };
    asked.cohort_and.push(filter);
    Ok(Some((
        segment.to_owned(),
        view.to(&format!("/retention?{}", asked.canonical())),
    )))
}

/// Returns example sets of existing events.
fn examples(view: &View, events: &[EventName], coverage: &Coverage) -> Vec<(String, String)> {
    let Some(asked) = home::likely_question(events) else {
        return Vec::new();
    };
    let Running { day, week, month } = Running::of(coverage);
    let cohort = &asked.bare.cohort;
    let returning = &asked.bare.returning;
    let sets = [
        format!("{returning}@{day}"),
        format!("{returning}@{month} & !{returning}@{week}"),
        format!("({cohort} & {returning})@{month}"),
    ];
    sets.map(|set| (links::people(view, &set, coverage.zone()), set))
        .into()
}

/// `/people.csv`
pub async fn file(request: HttpRequest) -> HttpResponse {
    let head = request.method() == Method::HEAD;
    // The first chunk is read before the response starts, so that an unreachable store gives a 503.
    let begun = block(&request, move |view| {
        let nothing = || {
            WebError::Query(wrong(
                Field::Set,
                "write a set, such as `active@2026-11-23`",
            ))
        };
        let wanted = Given::of(view, view.query())
            .check(view)?
            .ok_or_else(nothing)?;
        let members = view.tracker.members(wanted.whom.set());
        let members = if let Some(after) = wanted.after {
            members.after(after)
        } else {
            members
        };
        let (members, first) = if head {
            (members, Bytes::new())
        } else {
            piece(&view.tracker, members, HEAD_LINE)?
        };
        if head || first.len() == HEAD_LINE.len() {
            no_data(view, &wanted)?;
        }
        Ok((wanted.whom.file_name(), view.clone(), members, first))
    });
    let begun = begun.await.map(|(name, view, members, first)| {
        // Streams as fast as the client reads, with one chunk in memory. If the store fails the
        // response is aborted, which every client can detect.
        let rest = stream::try_unfold((view, members), |(view, members)| async {
            let tracker = view.tracker.clone();
            let next = move || piece(&tracker, members.clone(), "");
            let (members, bytes) =
                admitted(&view, Patience::Endless, next)
                    .await
                    .inspect_err(|error| {
                        tracing::error!("a list of people was aborted: {error}");
                    })?;
            Ok::<_, WebError>((!bytes.is_empty()).then_some((bytes, (view, members))))
        });
        let all = stream::once(async { Ok(first) }).chain(rest);
        let rest = if head {
            stream::empty().boxed_local()
        } else {
            all.boxed_local()
        };
        HttpResponse::Ok()
            .insert_header((CONTENT_TYPE, "text/csv; charset=utf-8; header=present"))
            .insert_header((CONTENT_DISPOSITION, disposition("attachment", &name)))
            .streaming(rest)
    });
    answer(&request, begun)
}

/// Returns an error if the store has no data for a set: an empty list would be misleading.
fn no_data(view: &View, wanted: &Wanted) -> Result<(), WebError> {
    // The table has no cells without data.
    let Whom::Set { text, set, zone } = &wanted.whom else {
        return Ok(());
    };
    let mut periods = set_periods(text, *zone).expect("the text was parsed as a set");
    let coverage = view.coverage_of_set(set, *zone)?;
    let state = state_of(view.tracker.count(set)?, &periods, &coverage);
    if state != Some(Progress::NotRecorded) {
        return Ok(());
    }
    periods.retain(|period| coverage.state_of(*period) == Progress::NotRecorded);
    let extent = words::extent(&coverage, &periods);
    Err(WebError::NoData(format!("{text} is not recorded{extent}")))
}

/// Returns the next ids, one per line, after a prefix. The list ends with an empty chunk.
fn piece(
    tracker: &Tracker,
    mut members: Members,
    before: &str,
) -> Result<(Members, Bytes), WebError> {
    let users = members
        .by_ref()
        .take(PIECE)
        .collect::<crate::Result<Vec<UserId>>>()?;
    let text = render::csv::people(before, &tracker.called(&users)?);
    Ok((members, text.into()))
}
