//! The addresses of all protocols, their limits, and the forms of their answers.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value as Json;

use super::event::{Bad, Malformed, Parsed, Wanted};
use super::segment::Kind;
use super::unpack::{Form, Style, uncompressed};
use super::{amplitude, mixpanel, posthog, segment};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    SegmentBatch,
    Segment(Kind),
    /// Measurements of Segment's libraries about themselves. They are ignored.
    SegmentMetrics,
    PostHog,
    /// Feature flags, which are always none.
    PostHogFlags,
    /// Session recordings. They are ignored.
    PostHogRecordings,
    MixpanelTrack,
    MixpanelImport,
    /// Profiles and groups. They are ignored.
    MixpanelProfiles,
    Amplitude,
    AmplitudeBatch,
    /// Amplitude's batch API, or PostHog's without the slash: the body tells.
    Batch,
}

/// The addresses. Both spellings, with and without a final slash, are served.
pub const ROUTES: &[(&str, Call)] = &[
    ("/v1/batch", Call::SegmentBatch),
    ("/v1/b", Call::SegmentBatch),
    ("/v1/import", Call::SegmentBatch),
    ("/v1/track", Call::Segment(Kind::Track)),
    ("/v1/t", Call::Segment(Kind::Track)),
    ("/v1/identify", Call::Segment(Kind::Identify)),
    ("/v1/i", Call::Segment(Kind::Identify)),
    ("/v1/page", Call::Segment(Kind::Page)),
    ("/v1/p", Call::Segment(Kind::Page)),
    ("/v1/screen", Call::Segment(Kind::Screen)),
    ("/v1/s", Call::Segment(Kind::Screen)),
    ("/v1/group", Call::Segment(Kind::Other)),
    ("/v1/g", Call::Segment(Kind::Other)),
    ("/v1/alias", Call::Segment(Kind::Other)),
    ("/v1/a", Call::Segment(Kind::Other)),
    ("/v1/m", Call::SegmentMetrics),
    ("/batch/", Call::PostHog),
    ("/capture", Call::PostHog),
    ("/capture/", Call::PostHog),
    ("/e", Call::PostHog),
    ("/e/", Call::PostHog),
    ("/i/v0/e", Call::PostHog),
    ("/i/v0/e/", Call::PostHog),
    ("/decide", Call::PostHogFlags),
    ("/decide/", Call::PostHogFlags),
    ("/flags", Call::PostHogFlags),
    ("/flags/", Call::PostHogFlags),
    ("/s", Call::PostHogRecordings),
    ("/s/", Call::PostHogRecordings),
    ("/track", Call::MixpanelTrack),
    ("/track/", Call::MixpanelTrack),
    ("/import", Call::MixpanelImport),
    ("/import/", Call::MixpanelImport),
    ("/engage", Call::MixpanelProfiles),
    ("/engage/", Call::MixpanelProfiles),
    ("/groups", Call::MixpanelProfiles),
    ("/groups/", Call::MixpanelProfiles),
    ("/2/httpapi", Call::Amplitude),
    ("/batch", Call::Batch),
];

/// The part of a body that tells Amplitude's from PostHog's.
#[derive(Deserialize)]
struct Shape {
    batch: Option<IgnoredAny>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Outcome {
    /// How many events it held.
    pub len: usize,
    /// How many of them are recorded, or ignored as they should be.
    pub taken: usize,
    pub bad: Vec<Bad>,
    /// The length of the body, uncompressed.
    pub bytes: usize,
    pub now: DateTime<Utc>,
}

impl Call {
    /// The largest body, uncompressed, in bytes.
    pub fn max_bytes(self) -> usize {
        match self {
            Call::SegmentBatch => 500 * KIB,
            Call::Segment(_) => 32 * KIB,
            Call::MixpanelTrack | Call::Amplitude => MIB,
            Call::MixpanelImport => 10 * MIB,
            Call::PostHog | Call::AmplitudeBatch | Call::Batch => 20 * MIB,
            Call::SegmentMetrics
            | Call::PostHogFlags
            | Call::PostHogRecordings
            | Call::MixpanelProfiles => 0,
        }
    }

    /// The most events of a body.
    fn max_events(self) -> usize {
        match self {
            Call::SegmentBatch => 2_500,
            Call::PostHog => 50_000,
            _ => 2_000,
        }
    }

    /// Whether the key is in the header, where it is checked before the body is read.
    pub fn has_key_in_header(self) -> bool {
        matches!(self, Call::SegmentBatch | Call::Segment(_))
    }

    /// Whose libraries use it.
    pub fn library(self) -> &'static str {
        match self {
            Call::SegmentBatch | Call::Segment(_) | Call::SegmentMetrics => "Segment",
            Call::PostHog | Call::PostHogFlags | Call::PostHogRecordings => "PostHog",
            Call::MixpanelTrack | Call::MixpanelImport | Call::MixpanelProfiles => "Mixpanel",
            Call::Amplitude | Call::AmplitudeBatch => "Amplitude",
            Call::Batch => "Amplitude and PostHog",
        }
    }

    /// Whether it can be used with GET.
    pub fn is_readable(self) -> bool {
        matches!(
            self,
            Call::PostHog | Call::PostHogFlags | Call::MixpanelTrack | Call::MixpanelProfiles
        )
    }

    /// The answer to what is ignored. `None` if this records events.
    pub fn ignored(self, style: Style) -> Option<HttpResponse> {
        let object = |json: Json| HttpResponse::Ok().json(json);
        match self {
            Call::SegmentMetrics => Some(object(segment::recorded(&[]))),
            Call::PostHogFlags => Some(object(posthog::no_flags())),
            Call::PostHogRecordings => Some(object(posthog::recorded(&[]))),
            Call::MixpanelProfiles if style.verbose => Some(object(mixpanel::recorded(0, &[]))),
            Call::MixpanelProfiles => Some(HttpResponse::Ok().body("1")),
            _ => None,
        }
    }

    /// Which of the protocols that share an address a body belongs to.
    pub fn told_by(self, body: &[u8]) -> Self {
        if self != Call::Batch {
            return self;
        }
        match serde_json::from_slice::<Shape>(body) {
            Ok(Shape { batch: Some(_) }) => Call::PostHog,
            _ => Call::AmplitudeBatch,
        }
    }

    /// Reads a body.
    pub fn parse<'a>(self, body: &'a [u8], wanted: &Wanted<'_>) -> Result<Parsed<'a>, Malformed> {
        let most = self.max_events();
        match self {
            Call::SegmentBatch => segment::batch(body, most, wanted),
            Call::Segment(kind) => segment::single(body, kind, wanted),
            Call::PostHog => posthog::parse(body, most, wanted),
            Call::MixpanelTrack | Call::MixpanelImport => mixpanel::parse(body, most, wanted),
            Call::Amplitude | Call::AmplitudeBatch | Call::Batch => {
                amplitude::parse(body, most, wanted)
            }
            Call::SegmentMetrics
            | Call::PostHogFlags
            | Call::PostHogRecordings
            | Call::MixpanelProfiles => Ok(Parsed::default()),
        }
    }

    /// The answer to a batch.
    pub fn recorded(self, outcome: &Outcome, style: Style) -> HttpResponse {
        let Outcome {
            len,
            taken,
            ref bad,
            bytes,
            now,
        } = *outcome;
        // A library drops a batch that is answered with 400, and takes one that is answered with 200
        // as done. So it is 200 as long as anything was recorded.
        let status = if taken == 0 && !bad.is_empty() {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::OK
        };
        let all_bad = || {
            let message = bad.first().map_or("", |bad| &bad.message);
            format!("no event was recorded; the first mistake: {message}")
        };
        match self {
            Call::SegmentBatch | Call::Segment(_) | Call::SegmentMetrics => {
                let mut json = segment::recorded(bad);
                if status != StatusCode::OK {
                    let refused = segment::refused(400, &all_bad());
                    for field in ["success", "code", "message"] {
                        json[field] = refused[field].clone();
                    }
                }
                HttpResponse::build(status).json(json)
            }
            Call::PostHog | Call::PostHogFlags | Call::PostHogRecordings => {
                if status == StatusCode::OK {
                    HttpResponse::Ok().json(posthog::recorded(bad))
                } else {
                    HttpResponse::build(status).json(posthog::refused(400, &all_bad()))
                }
            }
            Call::MixpanelImport if !style.verbose => {
                let status = if bad.is_empty() || style.lenient {
                    StatusCode::OK
                } else {
                    StatusCode::BAD_REQUEST
                };
                HttpResponse::build(status).json(mixpanel::imported(taken, bad, status.as_u16()))
            }
            Call::MixpanelTrack | Call::MixpanelImport | Call::MixpanelProfiles => {
                if status != StatusCode::OK {
                    return self.refused(status, None, &all_bad(), style);
                }
                if style.verbose {
                    HttpResponse::Ok().json(mixpanel::recorded(len, bad))
                } else {
                    HttpResponse::Ok().body("1")
                }
            }
            Call::Amplitude | Call::AmplitudeBatch | Call::Batch => {
                if bad.is_empty() {
                    HttpResponse::Ok().json(amplitude::recorded(taken, bytes, now))
                } else {
                    HttpResponse::BadRequest().json(amplitude::mistakes(bad))
                }
            }
        }
    }

    /// The answer to a request that was refused. `key` is the first key that it names.
    pub fn refused(
        self,
        status: StatusCode,
        key: Option<&str>,
        message: &str,
        style: Style,
    ) -> HttpResponse {
        let code = status.as_u16();
        let mut response = HttpResponse::build(status);
        match self {
            Call::SegmentBatch | Call::Segment(_) | Call::SegmentMetrics => {
                response.json(segment::refused(code, message))
            }
            Call::PostHog | Call::PostHogFlags | Call::PostHogRecordings => {
                response.json(posthog::refused(code, message))
            }
            Call::MixpanelImport if !style.verbose => {
                let reason = status.canonical_reason().unwrap_or_default();
                response.json(mixpanel::not_imported(code, reason, message))
            }
            _ if self.is_mixpanel() && style.verbose => response.json(mixpanel::refused(message)),
            _ if self.is_mixpanel() => response.body("0"),
            _ => response.json(amplitude::refused(code, key, message)),
        }
    }

    fn is_mixpanel(self) -> bool {
        matches!(
            self,
            Call::MixpanelTrack | Call::MixpanelImport | Call::MixpanelProfiles
        )
    }
}

/// Reads a body as each protocol does. A test that knows nothing of addresses uses it.
pub fn read_as_all(body: &[u8], wanted: &Wanted<'_>, mut each: impl FnMut(Parsed<'_>)) {
    let Ok(plain) = uncompressed(body, MIB) else {
        return;
    };
    let form = Form::read(&plain).ok().filter(|_| Form::is(&plain));
    let json = form.and_then(|form| form.data);
    let json = json.as_deref().unwrap_or(&plain);
    for (_, call) in ROUTES {
        if let Ok(parsed) = call.told_by(json).parse(json, wanted) {
            each(parsed);
        }
    }
}

impl Outcome {
    /// Describes the mistakes for the log, without the values of the events.
    pub fn mistakes(&self) -> Option<String> {
        let first = self.bad.first()?;
        let problem = if first.missing { "missing" } else { "wrong" };
        Some(format!(
            "{} of {} collected events were not recorded; the first: `{}` is {problem}",
            self.bad.len(),
            self.len,
            first.field
        ))
    }
}
