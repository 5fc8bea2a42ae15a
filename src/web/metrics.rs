//! `/metrics`: how the dashboard is doing, for Prometheus.

use std::sync::LazyLock;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder};

use crate::reports::keeping::Over;
use crate::web::error::answer;
use crate::web::{NamedStore, block};

/// Upper ends of the answers' times that are told apart, in seconds.
const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.6, 1.0, 2.5];

/// What is counted, of the whole process.
struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    up: IntGaugeVec,
    recall: IntGaugeVec,
    kept: IntGaugeVec,
    expired: IntCounterVec,
    expired_bytes: IntCounterVec,
    expiry_failures: IntCounterVec,
    expiry_done: IntGaugeVec,
}

static METRICS: LazyLock<Option<Metrics>> = LazyLock::new(|| Metrics::new().ok());

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let requests = Opts::new("cohortist_http_requests_total", "Requests answered, by route, method and status.");
        let seconds = HistogramOpts::new("cohortist_http_request_seconds", "Seconds until an answer began, by route.");
        let up = Opts::new("cohortist_store_up", "Whether the store answered just now, by its name on the dashboard.");
        let recall = "Counts so far: remembered, computed by the store, and bitmaps looked at for changes, by store.";
        let recall = Opts::new("cohortist_counts", recall);
        let kept = Opts::new(
            "cohortist_kept_pages",
            "Pages kept as they were written: how many there are, and were sent again so far.",
        );
        let expired =
            Opts::new("cohortist_expired_bitmaps_total", "Bitmaps deleted as by [expire], by store and kind.");
        let expired_bytes =
            Opts::new("cohortist_expired_bytes_total", "About how many bytes they took, where it is known.");
        let failures =
            Opts::new("cohortist_expire_failures_total", "How often [expire] could not be carried out, by store.");
        let done = Opts::new(
            "cohortist_expire_last_success_timestamp_seconds",
            "When [expire] was last carried out, by store.",
        );
        let info = Opts::new("cohortist_build_info", "Always 1; says which version runs.");
        let metrics = Metrics {
            registry: Registry::new(),
            requests: IntCounterVec::new(requests, &["route", "method", "status"])?,
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["route"])?,
            up: IntGaugeVec::new(up, &["store"])?,
            recall: IntGaugeVec::new(recall, &["store", "how"])?,
            kept: IntGaugeVec::new(kept, &["what"])?,
            expired: IntCounterVec::new(expired, &["store", "kind"])?,
            expired_bytes: IntCounterVec::new(expired_bytes, &["store", "kind"])?,
            expiry_failures: IntCounterVec::new(failures, &["store"])?,
            expiry_done: IntGaugeVec::new(done, &["store"])?,
        };
        let info = IntGaugeVec::new(info, &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.registry.register(Box::new(metrics.requests.clone()))?;
        metrics.registry.register(Box::new(metrics.seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.up.clone()))?;
        metrics.registry.register(Box::new(metrics.recall.clone()))?;
        metrics.registry.register(Box::new(metrics.kept.clone()))?;
        metrics.registry.register(Box::new(metrics.expired.clone()))?;
        metrics.registry.register(Box::new(metrics.expired_bytes.clone()))?;
        metrics.registry.register(Box::new(metrics.expiry_failures.clone()))?;
        metrics.registry.register(Box::new(metrics.expiry_done.clone()))?;
        metrics.registry.register(Box::new(info))?;
        Ok(metrics)
    }
}

/// Counts an answer. `route` is the pattern that was met, so that there are only as many as there are routes.
pub fn answered(route: Option<String>, method: &str, status: u16, took: Duration) {
    let Some(metrics) = &*METRICS else { return };
    let route = route.unwrap_or_else(|| "none".to_owned());
    // Methods are whatever a client sends.
    let method = if matches!(method, "GET" | "HEAD" | "POST") { method } else { "other" };
    metrics.requests.with_label_values(&[&*route, method, &status.to_string()]).inc();
    metrics.seconds.with_label_values(&[&*route]).observe(took.as_secs_f64());
}

/// Notes that of a store everything that had been kept long enough was deleted, as of `now`.
pub fn expired(store: &str, kinds: &[Over], now: DateTime<Utc>) {
    let Some(metrics) = &*METRICS else { return };
    for over in kinds {
        let labels = [store, over.grain.as_str()];
        metrics.expired.with_label_values(&labels).inc_by(over.count);
        metrics.expired_bytes.with_label_values(&labels).inc_by(over.bytes.unwrap_or(0));
    }
    // So that there is a number to watch before the first failure.
    metrics.expiry_failures.with_label_values(&[store]).inc_by(0);
    metrics.expiry_done.with_label_values(&[store]).set(now.timestamp());
}

/// Counts a failure to do so.
pub fn expiry_failed(store: &str) {
    if let Some(metrics) = &*METRICS {
        metrics.expiry_failures.with_label_values(&[store]).inc();
    }
}

/// `/metrics`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let told = block(&request, |view| {
        let Some(metrics) = &*METRICS else { return Ok(String::new()) };
        for NamedStore { name, tracker, .. } in &view.dashboard.stores {
            metrics.up.with_label_values(&[name]).set(i64::from(tracker.describe().is_ok()));
            if let Some(recall) = tracker.store().recall() {
                let counters =
                    [("remembered", recall.remembered), ("computed", recall.computed), ("checked", recall.checked)];
                for (how, count) in counters {
                    let count = i64::try_from(count).unwrap_or(i64::MAX);
                    metrics.recall.with_label_values(&[name.as_str(), how]).set(count);
                }
            }
        }
        let kept = &view.dashboard.kept;
        for (what, count) in [("there", u64::try_from(kept.len()).unwrap_or(u64::MAX)), ("sent", kept.sent())] {
            metrics.kept.with_label_values(&[what]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        Ok(TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap_or_default())
    });
    let text = |body: String| HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT_FORMAT)).body(body);
    answer(&request, told.await.map(text))
}
