//! `/`: on to the question a newcomer would ask first.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse};
use chrono::TimeDelta;

use crate::sets::{EventName, Segment};
use crate::web::error::{WebError, answer};
use crate::web::query::Asked;
use crate::web::{State, block};

/// Names under which products record that somebody joined, best first.
const JOINING: [&str; 8] = ["signup", "sign_up", "signed_up", "register", "registered", "join", "created", "install"];

/// Names under which products record that somebody was there, best first.
const BEING_THERE: [&str; 8] = ["active", "activity", "login", "visit", "session", "open", "pageview", "seen"];

/// Redirects to `/retention` with the question asked, as bitmapist's old bookmarks do at the root, or the default one;
/// without one when nothing was recorded yet.
pub async fn get(request: HttpRequest) -> HttpResponse {
    let query = request.query_string().to_owned();
    let location = block(&request, move |view| {
        if !query.is_empty() {
            return Ok(view.to(&format!("/retention?{query}")));
        }
        let Some(asked) = default_question(view)? else { return Ok(view.to("/retention")) };
        Ok(view.to(&format!("/retention?{}", asked.canonical())))
    });
    let found = |to: String| HttpResponse::Found().insert_header((LOCATION, to)).finish();
    answer(&request, location.await.map(found))
}

/// The question of whoever asks none: the dashboard's own, or the most sensible one, shown where its data are. `None`
/// without events.
pub(super) fn default_question(state: &State) -> Result<Option<Asked>, WebError> {
    if let Some(own) = &state.dashboard.question {
        return Ok(Some(own.clone()));
    }
    let Some(mut asked) = likely_question(&state.events()?) else { return Ok(None) };
    // Old data is shown where it is, and not as a fortnight of nothing.
    if let Segment::Event(name) = &asked.bare.cohort {
        let fortnight_ago = (state.now() - TimeDelta::days(14)).date_naive();
        asked.bare.to = state.tracker.last_recorded(name)?.filter(|date| *date < fortnight_ago);
    }
    Ok(Some(asked))
}

/// signup → active where both exist, otherwise the two events that look most like them. `None` without events.
pub(super) fn likely_question(events: &[EventName]) -> Option<Asked> {
    // `plan:pro` is more likely what somebody *is* than what somebody did.
    let did: Vec<&EventName> = events.iter().filter(|name| !name.as_str().contains(':')).collect();
    let did = if did.is_empty() { events.iter().collect() } else { did };
    let like = |words: &[&str]| {
        words.iter().find_map(|word| did.iter().copied().find(|name| name.as_str().eq_ignore_ascii_case(word)))
    };
    let cohort = like(&JOINING).or_else(|| like(&BEING_THERE)).or(did.first().copied())?;
    let returning = like(&BEING_THERE).or_else(|| did.iter().copied().find(|name| *name != cohort)).unwrap_or(cohort);
    Some(Asked::new(Segment::event(cohort), Segment::event(returning)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_question_is_the_most_sensible_one() {
        let asked = |names: &[&str]| {
            let events: Vec<EventName> = names.iter().map(|n| EventName::new(n).unwrap()).collect();
            likely_question(&events).map(|asked| format!("{} → {}", asked.bare.cohort, asked.bare.returning))
        };
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&["a", "active", "signup"]).as_deref(), Some("signup → active"));
        assert_eq!(asked(&["Active", "song"]).as_deref(), Some("Active → Active"));
        assert_eq!(asked(&["country:US", "purchase"]).as_deref(), Some("purchase → purchase"));
        assert_eq!(asked(&["plan:pro", "plan:free"]).as_deref(), Some("plan:pro → plan:free"));
        assert_eq!(asked(&["one", "two"]).as_deref(), Some("one → two"));
    }
}
