//! Names, user ids and times as programs write them.

use chrono::{DateTime, Datelike};
use cohortist::calendar::parse_moment;
use cohortist::sets::UserIdError;
use cohortist::values::{Spelling, Times, clean, event_name, numeric_id, string_id};

/// Whether an id stands for no user.
fn is_nobody(error: &UserIdError) -> bool {
    matches!(error, UserIdError::Empty | UserIdError::Nobody(_))
}

pub fn check(bytes: &[u8]) {
    numbers(bytes);
    times(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        texts(text);
    }
}

fn numbers(bytes: &[u8]) {
    if let Ok(user) = numeric_id(bytes) {
        let again = numeric_id(user.id.to_string().as_bytes()).unwrap();
        assert_eq!((again.id, again.spelling), (user.id, Spelling::Plain));
    }
}

fn texts(text: &str) {
    let padded = format!("\u{feff} {text}\u{a0}\t");
    assert_eq!(clean(&padded), clean(text), "white space around it");
    assert_eq!(clean(&clean(text)), clean(text), "cleaned twice");
    let number = numeric_id(text.as_bytes());
    let id = string_id(text);
    assert_eq!(string_id(&padded), id);
    match &id {
        Ok(id) => {
            assert_eq!(string_id(id).as_deref(), Ok(&**id));
            assert!(!number.is_err_and(|error| is_nobody(&error)), "{text:?}");
        }
        Err(error) if is_nobody(error) => {
            assert!(number.is_err_and(|error| is_nobody(&error)), "{text:?}");
        }
        Err(_) => {}
    }
    if let Ok(name) = event_name(text) {
        assert_eq!(event_name(name.as_str()), Ok(name.clone()));
        assert_eq!(event_name(&padded), Ok(name.clone()));
        assert_eq!(name.composed(), None);
    }
}

fn times(bytes: &[u8]) {
    let now = parse_moment("2026-11-23T14:00:00Z").unwrap();
    let times = Times::plausible(now);
    let read = times.read(bytes);
    let padded = [b" ", bytes, b"\t"].concat();
    assert_eq!(times.read(&padded), read);
    match read {
        Ok(time) => {
            let moment = DateTime::from_timestamp(time.seconds, 0).unwrap();
            assert!((1990..=2027).contains(&moment.year()), "{moment}");
            for shown in [
                moment.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
                moment.format("%Y-%m-%d %H:%M:%S+00").to_string(),
                moment.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            ] {
                let again = times.read(shown.as_bytes()).map(|time| time.seconds);
                assert_eq!(again, Ok(time.seconds), "{shown}");
            }
        }
        Err(error) => {
            for format in error.formats() {
                assert!(times.clone().with_format(&format).is_ok(), "{format}");
            }
        }
    }
}
