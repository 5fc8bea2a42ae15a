//! The id of a request, in its response and in the log.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, hash};

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{HttpMessage, HttpRequest};

/// The header that carries a request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id of a client that is taken over.
const MAX_ID: usize = 128;

/// What a request goes by, in its answer and in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub(super) HeaderValue);

impl RequestId {
    /// The client's, where it is fit for a log, or a new one.
    pub fn of(request: &ServiceRequest) -> Self {
        let given = request
            .headers()
            .get(REQUEST_ID)
            .filter(|given| is_plain(given.as_bytes()));
        RequestId(given.map_or_else(generated, HeaderValue::clone))
    }

    /// The id of a request that came through [`requests`].
    pub fn known(request: &HttpRequest) -> Self {
        request
            .extensions()
            .get::<RequestId>()
            .cloned()
            .unwrap_or_else(|| RequestId(HeaderValue::from_static("-")))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Plain by construction.
        f.write_str(self.0.to_str().unwrap_or("-"))
    }
}

/// Whether an id cannot be mistaken for anything else in a log.
fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte);
    (1..=MAX_ID).contains(&id.len()) && id.iter().all(plain)
}

fn generated() -> HeaderValue {
    HeaderValue::try_from(random_id()).expect("hexadecimal digits are valid in a header")
}

/// Returns 32 hexadecimal digits that are different each time, also in other processes.
pub fn random_id() -> String {
    static KEYS: LazyLock<[hash::RandomState; 2]> = LazyLock::new(Default::default);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = KEYS
        .each_ref()
        .map(|key| hash::BuildHasher::hash_one(key, count));
    format!("{high:016x}{low:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain() {
        for id in ["a", "01HZX-7_.:/+=", &"x".repeat(MAX_ID)] {
            assert!(is_plain(id.as_bytes()), "{id}");
        }
        for id in [
            "",
            "a b",
            "a\"b",
            "a\tb",
            "a{b}",
            "é",
            "a;b",
            &"x".repeat(MAX_ID + 1),
        ] {
            assert!(!is_plain(id.as_bytes()), "{id}");
        }
        let [one, two] = [generated(), generated()];
        assert!(one != two && is_plain(one.as_bytes()) && one.len() == 32);
    }
}
