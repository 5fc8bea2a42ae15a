//! `/metrics`: how the dashboard is doing, for Prometheus.

use std::sync::LazyLock;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder};

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
}

static METRICS: LazyLock<Option<Metrics>> = LazyLock::new(|| Metrics::new().ok());

impl Metrics {
    fn new() -> prometheus::Result<Self> {
        let requests = Opts::new("cohortist_http_requests_total", "Requests answered, by route, method and status.");
        let seconds = HistogramOpts::new("cohortist_http_request_seconds", "Seconds until an answer began, by route.");
        let up = Opts::new("cohortist_store_up", "Whether the store answered just now, by its name on the dashboard.");
        let recall = "Counts so far: remembered, computed by the store, and bitmaps looked at for changes, by store.";
        let recall = Opts::new("cohortist_counts", recall);
        let info = Opts::new("cohortist_build_info", "Always 1; says which version runs.");
        let metrics = Metrics {
            registry: Registry::new(),
            requests: IntCounterVec::new(requests, &["route", "method", "status"])?,
            seconds: HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["route"])?,
            up: IntGaugeVec::new(up, &["store"])?,
            recall: IntGaugeVec::new(recall, &["store", "how"])?,
        };
        let info = IntGaugeVec::new(info, &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.registry.register(Box::new(metrics.requests.clone()))?;
        metrics.registry.register(Box::new(metrics.seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.up.clone()))?;
        metrics.registry.register(Box::new(metrics.recall.clone()))?;
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
        Ok(TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap_or_default())
    });
    let text = |body: String| HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT_FORMAT)).body(body);
    answer(&request, told.await.map(text))
}
