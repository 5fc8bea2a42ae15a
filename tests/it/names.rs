//! Names as people read and write them: labels, phrases, saved segments and lists, and parameters
//! that nobody knows.

use cohortist::clock::Clock;
use cohortist::server::Dashboard;
use cohortist::sets::{Label, Labels, Segments, Set};

use crate::http::{agent, read};
use crate::support::web::{name, now, product, serve_dashboard};

/// A dashboard with labels: one with a phrase, one without, one that two events have.
fn labelled() -> Dashboard {
    let saved = [(name("regulars"), "active & web".parse().unwrap())];
    let tracker = product(20, 40).with_segments(Segments::new(saved).unwrap());
    let mut labels = Labels::from([
        (name("signup"), "Signed up"),
        (name("regulars"), "Regular people"),
        (name("plan:pro"), "Twice"),
        (name("web"), "Twice"),
    ]);
    let did = Some("opened the app".to_owned());
    let opened = "Opened the app".to_owned();
    labels.insert(name("active"), Label { name: opened, did });
    let mut dashboard = Dashboard::new(tracker, Clock::Fixed(now()));
    dashboard.glossary.labels = labels;
    let about = "The app came to the front".to_owned();
    dashboard.glossary.about.insert(name("active"), about);
    dashboard
}

fn served() -> String {
    format!("http://{}", serve_dashboard(labelled()))
}

#[test]
fn a_label_is_understood_wherever_a_name_is() {
    let host = served();
    let by_name = read(&format!(
        "{host}/retention.csv?cohort=signup&returning=active"
    ));
    let by_label = read(&format!(
        "{host}/retention.csv?cohort=Signed+up&returning=opened+the+app"
    ));
    assert_eq!((by_label.status, &by_label.body), (200, &by_name.body));
    let page = read(&format!(
        "{host}/retention?cohort=Signed+up&returning=Regular+people"
    ));
    assert_eq!(page.status, 200);
    for field in [
        "name=\"cohort\" value=\"Signed up\"",
        "name=\"returning\" value=\"Regular people\"",
        "<option value=\"Signed up\">",
    ] {
        assert!(page.body.contains(field), "{field}");
    }
    // In functions, sets, other reports, groups, and at the address of an event.
    for path in [
        "/retention?cohort=first(Signed+up)&returning=within(Opened+the+app,-1..0)",
        "/retention?cohort=Signed+up&returning=active&compare=Signed+up&compare=Regular+people",
        "/lifecycle?event=Opened+the+app&by=day",
        "/trends?event=Opened+the+app&event=Signed+up",
        "/people?set=Opened+the+app@2026-11",
        "/api/v1/count?set=Opened+the+app@2026-11",
    ] {
        let answer = read(&format!("{host}{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(!answer.body.contains("never recorded for"), "{path}");
    }
    let moved = read(&format!("{host}/events/Signed%20up"));
    assert_eq!(
        (moved.status, moved.header("location")),
        (302, "/events/signup")
    );
    // What two events are called names both, unless an event has that name.
    let page = read(&format!("{host}/retention?cohort=Twice&returning=active"));
    assert_eq!(page.status, 400);
    assert!(
        page.body.contains("is the label of “plan:pro” and “web”"),
        "{}",
        page.body
    );
    assert_eq!(
        read(&format!("{host}/api/v1/count?set=Twice@2026-11")).status,
        400
    );
    let picker = read(&format!("{host}/autocomplete.json?q=sign")).body;
    assert!(picker.contains("\"text\":\"Signed up\""), "{picker}");
}

#[test]
fn people_are_read_out_as_sentences() {
    let host = served();
    for (path, said) in [
        (
            "/people?set=active@2026-11+%26+!plan:pro@ever",
            " people who opened the app in November 2026 and are not Twice",
        ),
        (
            "/people?set=signup@2026-11-20+%26+!active@2026-11-22",
            " people who did Signed up on Fri 20 Nov 2026 and are not among those who opened the app on Sun 22 Nov 2026",
        ),
        (
            "/people?cohort=signup&returning=active&at=2026-11-20&k=2",
            " people who did Signed up on Fri 20 Nov 2026 also opened the app on Sun 22 Nov 2026",
        ),
        (
            "/people?cohort=signup&returning=active&at=2026-11-20&k=2&who=lost",
            " people who did Signed up on Fri 20 Nov 2026 are not among those who opened the app on Sun 22 Nov 2026",
        ),
        (
            "/people?cohort=active&returning=web&at=2026-11-20",
            " people who opened the app on Fri 20 Nov 2026",
        ),
    ] {
        let page = read(&format!("{host}{path}")).body;
        let title = page
            .split("<title>")
            .nth(1)
            .unwrap()
            .split("</title>")
            .next()
            .unwrap();
        assert!(title.contains(said), "{path}: {title}");
    }
}

#[test]
fn a_cohort_is_found_by_any_date_in_its_period() {
    let host = served();
    let at = |at: &str| {
        let page = read(&format!(
            "{host}/people?cohort=signup&returning=active&by=week&k=0&at={at}"
        ));
        let title = page.body.split("<title>").nth(1).unwrap_or_default();
        (
            page.status,
            title
                .split("</title>")
                .next()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let week = at("2026-W47");
    assert_eq!(week.0, 200, "{}", week.1);
    assert_eq!(at("2026-11-18"), week);
    assert_eq!(at("2026-11").0, 400, "a month is no date in a week");
}

#[test]
fn parameters_that_nobody_knows_are_named() {
    let host = served();
    let page = read(&format!(
        "{host}/lifecycle?event=active&tz=Europe/Berlin&utm_source=mail"
    ));
    assert_eq!(page.status, 200);
    let said = "Ignored: “tz” is not a parameter of this address; did you mean “zone”?";
    assert!(page.body.contains(said), "{}", page.body);
    assert!(!page.body.contains("utm_source” is"));
    for path in [
        "/api/v1/lifecycle?event=active&tz=UTC",
        "/api/v1/count?set=active@2026-11&tz=UTC",
        "/api/v1/events?tz=UTC",
    ] {
        let refused = read(&format!("{host}{path}"));
        assert_eq!(refused.status, 400, "{path}");
        assert!(
            refused.body.contains("did you mean `zone`?"),
            "{}",
            refused.body
        );
    }
    let broken = read(&format!(
        "{host}/retention?cohort=signup&returning=active&by=fortnight"
    ));
    assert_eq!(broken.status, 400);
    assert!(
        broken.body.contains("value=\"day\" checked"),
        "the default grain"
    );
    assert!(!broken.body.contains("value=\"hour\" checked"));
    assert!(broken.body.contains("“fortnight” is not a period"));
}

#[test]
fn a_saved_segment_has_a_page() {
    let host = served();
    let page = read(&format!("{host}/events/regulars"));
    assert_eq!(page.status, 200);
    assert!(
        page.body
            .contains("People who opened the app and did Twice: <code>active &#38; web</code>"),
        "{}",
        page.body
    );
    assert!(page.body.contains("class=\"cohorts list periods\""));
    assert_eq!(read(&format!("{host}/events/regulars.csv")).status, 200);
    let event = read(&format!("{host}/events/active")).body;
    assert!(
        event.contains("The app came to the front"),
        "its description"
    );
    let all = read(&format!("{host}/segments")).body;
    assert!(
        all.contains("people who opened the app and did Twice"),
        "{all}"
    );
}

#[test]
fn saved_lists_are_renamed_and_deleted_and_nothing_else_is() {
    let dashboard = labelled();
    let tracker = dashboard.stores[0].tracker.clone();
    let mut read_only = labelled();
    read_only.stores[0].read_only = true;
    let host = format!("http://{}", serve_dashboard(dashboard));
    let send = |url: String, origin: &str, body: &str| {
        let sent = agent()
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", origin)
            .send(body);
        let sent = sent.unwrap();
        let to = sent.headers().get("location");
        (
            sent.status().as_u16(),
            to.map_or_else(String::new, |to| to.to_str().unwrap().to_owned()),
        )
    };
    let change = |body: &str| send(format!("{host}/segments"), &host, body);
    let saved = send(
        format!("{host}/people?set=active@2026-11-23"),
        &host,
        "name=fans",
    );
    assert_eq!(saved.0, 303);
    assert_eq!(tracker.saved_lists().unwrap(), [name("fans")]);
    let people = tracker.count(&Set::ever(&name("fans"))).unwrap();
    assert!(people > 0);
    let page = read(&format!("{host}/segments")).body;
    assert!(page.contains("name=\"event\" value=\"fans\""), "{page}");
    assert!(
        !page.contains("value=\"plan:pro\""),
        "properties are not lists"
    );

    // A form of another site, an event that is no list, and names that are taken.
    assert_eq!(
        send(
            format!("{host}/segments"),
            "http://evil.example",
            "event=fans"
        )
        .0,
        403
    );
    assert_eq!(change("event=plan:pro").0, 404);
    assert_eq!(change("event=active&to=x").0, 404);
    assert_eq!(change("event=fans&to=active").0, 400);
    assert_eq!(change("event=fans&to=regulars").0, 400);
    assert_eq!(change("event=fans&to=").0, 400);
    assert_eq!(tracker.saved_lists().unwrap(), [name("fans")]);

    assert_eq!(
        change("event=fans&to=friends"),
        (303, "/segments?changed=renamed".to_owned())
    );
    assert_eq!(tracker.saved_lists().unwrap(), [name("friends")]);
    assert_eq!(tracker.count(&Set::ever(&name("friends"))).unwrap(), people);
    assert_eq!(tracker.count(&Set::ever(&name("fans"))).unwrap(), 0);
    let page = read(&format!("{host}/events/friends")).body;
    assert!(page.contains("A saved list of people"), "{page}");
    assert_eq!(
        change("event=friends"),
        (303, "/segments?changed=deleted".to_owned())
    );
    assert!(tracker.saved_lists().unwrap().is_empty());
    assert!(tracker.keys_of(&name("friends")).unwrap().is_empty());
    assert!(!tracker.keys_of(&name("plan:pro")).unwrap().is_empty());

    let closed = format!("http://{}", serve_dashboard(read_only));
    assert_eq!(
        send(format!("{closed}/segments"), &closed, "event=fans").0,
        403
    );
}
