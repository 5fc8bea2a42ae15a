//! Exports of other products: how they are recognized, and where their values are.

/// A product whose exports are recognized.
#[derive(Debug)]
pub struct Known {
    /// Its name, with an article.
    pub name: &'static str,
    /// The fields that every export has.
    all: &'static [&'static str],
    /// Fields of which every export has one.
    any: &'static [&'static str],
    /// The fields that may hold the user, in a store of numbers.
    pub user: &'static [&'static str],
    /// The same in a store of string ids.
    pub string_user: &'static [&'static str],
    /// The fields that may hold the event.
    pub event: &'static [&'static str],
    /// The event of lines without one.
    pub default_event: Option<&'static str>,
    /// The fields of which the first that exists holds the time.
    pub time: &'static [&'static str],
    /// The objects with properties, in the order in which they are looked up. An empty text is the
    /// line itself.
    pub parents: &'static [&'static str],
}

impl Known {
    /// Returns whether a file is an export of the product.
    pub(super) fn is_in(&self, has: impl Fn(&str) -> bool) -> bool {
        self.all.iter().all(|name| has(name))
            && (self.any.is_empty() || self.any.iter().any(|name| has(name)))
    }
}

pub static KNOWN: [Known; 8] = [
    Known {
        name: "an Amplitude export",
        all: &["event_type", "event_time"],
        any: &["amplitude_id", "device_id", "user_id"],
        user: &["user_id"],
        // Amplitude counts people by this id: it follows them through devices.
        string_user: &["amplitude_id"],
        event: &["event_type"],
        default_event: None,
        time: &["event_time"],
        parents: &["event_properties", "user_properties", ""],
    },
    Known {
        name: "a Mixpanel export",
        all: &["event", "properties.distinct_id", "properties.time"],
        any: &[],
        user: &["properties.distinct_id"],
        string_user: &["properties.distinct_id"],
        event: &["event"],
        default_event: None,
        time: &["properties.time"],
        parents: &["properties", ""],
    },
    Known {
        name: "a PostHog export",
        all: &["distinct_id", "event", "timestamp"],
        any: &[
            "elements_chain",
            "properties",
            "properties.$browser",
            "properties.$lib",
            "properties.$current_url",
            "person_id",
            "person_properties",
        ],
        user: &["distinct_id"],
        string_user: &["distinct_id"],
        event: &["event"],
        default_event: None,
        time: &["timestamp"],
        parents: &["", "properties", "person.properties", "person_properties"],
    },
    Known {
        name: "a Google Analytics export",
        all: &["event_name", "event_timestamp"],
        any: &["user_pseudo_id", "event_params"],
        user: &["user_id", "user_pseudo_id"],
        string_user: &["user_id", "user_pseudo_id"],
        event: &["event_name"],
        default_event: None,
        time: &["event_timestamp"],
        parents: &[
            "",
            "user_properties",
            "event_params",
            "device",
            "geo",
            "traffic_source",
        ],
    },
    Known {
        name: "a Snowplow export",
        all: &["collector_tstamp", "event"],
        any: &["domain_userid", "network_userid", "event_id"],
        user: &["user_id"],
        string_user: &["user_id", "domain_userid", "network_userid"],
        event: &["event_name", "event"],
        default_event: None,
        time: &["derived_tstamp", "collector_tstamp"],
        parents: &[""],
    },
    Known {
        name: "a Segment export",
        all: &["messageId", "type"],
        any: &["userId", "anonymousId"],
        user: &["userId"],
        string_user: &["userId", "anonymousId"],
        event: &["event", "type"],
        default_event: None,
        time: &["timestamp", "originalTimestamp", "sentAt", "receivedAt"],
        parents: &["properties", "traits", "context.traits", "context", ""],
    },
    Known {
        name: "an Umami export",
        all: &["website_id", "session_id", "created_at"],
        any: &["event_type", "event_name", "url_path"],
        user: &["distinct_id"],
        string_user: &["distinct_id", "session_id"],
        event: &["event_name"],
        default_event: Some("pageview"),
        time: &["created_at"],
        parents: &[""],
    },
    Known {
        name: "a Plausible export",
        all: &["name", "pathname", "user_id", "timestamp"],
        any: &["site_id", "domain", "hostname"],
        user: &["user_id"],
        string_user: &["user_id"],
        event: &["name"],
        default_event: None,
        time: &["timestamp"],
        parents: &[""],
    },
];

/// The number of columns of an event that Snowplow enriched.
pub const SNOWPLOW_COLUMNS: usize = 131;

/// Returns the name of a column of an event that Snowplow enriched, which has no header. Columns
/// that nobody asks for have a number.
pub fn snowplow_column(place: usize) -> String {
    let name = match place {
        0 => "app_id",
        1 => "platform",
        2 => "etl_tstamp",
        3 => "collector_tstamp",
        4 => "dvce_created_tstamp",
        5 => "event",
        6 => "event_id",
        12 => "user_id",
        15 => "domain_userid",
        16 => "domain_sessionidx",
        17 => "network_userid",
        18 => "geo_country",
        29 => "page_url",
        30 => "page_title",
        31 => "page_referrer",
        123 => "domain_sessionid",
        124 => "derived_tstamp",
        125 => "event_vendor",
        126 => "event_name",
        _ => return format!("column{}", place + 1),
    };
    name.to_owned()
}
