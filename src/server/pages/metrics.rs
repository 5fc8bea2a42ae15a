//! `/metrics` for Prometheus. `docs/reference/metrics.md` lists every metric; a test compares the
//! two.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};

use crate::process::Process;
use crate::reports::clamped_counts;
use crate::server::exposition::{CONTENT_TYPE, Exposition};
use crate::server::metrics::{EXPIRY, ROUTES, lock};
use crate::server::respond::answer;
use crate::server::work::block;
use crate::server::{NamedStore, State};
use crate::store::{CacheStats, Health, StoreInfo};
use crate::telemetry;

/// `/metrics`
pub async fn page(request: HttpRequest) -> HttpResponse {
    let read = block(&request, |view| Ok(text(view))).await;
    let sent = read.map(|text| {
        HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
            .body(text)
    });
    answer(&request, sent)
}

fn text(state: &State) -> String {
    let mut page = Exposition::default();
    requests(&mut page);
    stores(&mut page, &state.dashboard.stores);
    pages(&mut page, state);
    clients(&mut page);
    expiry(&mut page);
    process(&mut page);
    page.gauge(
        "cohortist_build_info",
        "Always 1; the label says which version runs.",
    )
    .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.into_text()
}

fn requests(page: &mut Exposition) {
    let routes: Vec<_> = lock(&ROUTES)
        .iter()
        .map(|(route, counts)| (route.clone(), Arc::clone(counts)))
        .collect();
    let mut total = page.counter("cohortist_http_requests_total", "HTTP requests answered.");
    for (route, counts) in &routes {
        for ((method, status), count) in &*lock(&counts.answers) {
            total.sample(
                &[
                    ("method", method),
                    ("route", route),
                    ("status", &status.to_string()),
                ],
                count,
            );
        }
    }
    let help = "Time the server took for an answer, without the time the client took to read it.";
    let mut seconds = page.histogram("cohortist_http_request_seconds", help);
    for (route, counts) in &routes {
        seconds.distribution(&[("route", route)], &counts.seconds.histogram());
    }
}

fn stores(page: &mut Exposition, stores: &[NamedStore]) {
    let known = stores.iter().map(|NamedStore { name, tracker, .. }| {
        (
            name.as_str(),
            // `cohortist_store_up` reports the failure.
            tracker.describe().ok(),
            tracker.health(),
            tracker.cache_stats(),
        )
    });
    // Describes each store once: an unreachable store answers slowly.
    let known: Vec<_> = known.collect();
    let mut up = page.gauge("cohortist_store_up", "Whether the store answered just now.");
    for (name, info, ..) in &known {
        up.sample(&[("store", name)], u8::from(info.is_some()));
    }
    let mut writable = page.gauge(
        "cohortist_store_writable",
        "Whether the store can be written.",
    );
    for (name, info, ..) in &known {
        writable.sample(
            &[("store", name)],
            u8::from(info.as_ref().is_some_and(|info| info.refusal.is_none())),
        );
    }
    files(page, &known);
    let help = "Counts: remembered, computed by the store, or bitmaps checked for changes.";
    let mut counts = page.counter("cohortist_counts_total", help);
    for (name, .., recall) in &known {
        let Some(recall) = recall else { continue };
        for (how, count) in [
            ("checked", recall.checked),
            ("computed", recall.computed),
            ("remembered", recall.remembered),
        ] {
            counts.sample(&[("how", how), ("store", name)], count);
        }
    }
}

/// A store for metrics: its name, description, health, and cache statistics.
type Known<'a> = (&'a str, Option<StoreInfo>, Health, Option<CacheStats>);

/// Metrics on the files of embedded stores. Other stores manage their own files.
fn files(page: &mut Exposition, known: &[Known<'_>]) {
    let files: Vec<_> = known
        .iter()
        .filter_map(|(name, _, health, _)| Some((*name, health, health.files.as_ref()?)))
        .collect();
    let mut errors = page.counter(
        "cohortist_write_errors_total",
        "Writes refused because the disk failed or was full.",
    );
    for (name, health, _) in &files {
        errors.sample(&[("store", name)], health.write_errors);
    }
    let mut seconds = page.histogram(
        "cohortist_checkpoint_seconds",
        "How long checkpoints took, failed ones included.",
    );
    for (name, _, files) in &files {
        seconds.distribution(&[("store", name)], &files.checkpoint_seconds);
    }
    let mut failures = page.counter(
        "cohortist_checkpoint_failures_total",
        "Checkpoints that failed.",
    );
    for (name, _, files) in &files {
        failures.sample(&[("store", name)], files.checkpoint_failures);
    }
    let mut store = page.gauge(
        "cohortist_store_bytes",
        "Size of the file that checkpoints write.",
    );
    for (name, _, files) in &files {
        store.sample(&[("store", name)], files.store_bytes);
    }
    let mut log = page.gauge(
        "cohortist_log_bytes",
        "Size of the log that the next checkpoint empties.",
    );
    for (name, _, files) in &files {
        log.sample(&[("store", name)], files.log_bytes);
    }
}

fn pages(page: &mut Exposition, state: &State) {
    let cache = &state.dashboard.page_cache;
    page.gauge("cohortist_kept_pages", "Rendered pages in the cache.")
        .sample(&[], cache.len());
    page.counter(
        "cohortist_kept_pages_sent_total",
        "Pages answered from the cache.",
    )
    .sample(&[], cache.sent());
    page.counter(
        "cohortist_clamped_counts_total",
        "Counts that contradicted another count of the same answer.",
    )
    .sample(&[], clamped_counts());
    let load = state.dashboard.admission.load();
    let mut questions = page.gauge(
        "cohortist_questions",
        "Questions that take turns: being answered, and waiting.",
    );
    questions.sample(&[("state", "running")], load.running);
    questions.sample(&[("state", "waiting")], load.waiting);
    page.counter(
        "cohortist_questions_refused_total",
        "Questions refused because too many waited.",
    )
    .sample(&[], load.refused);
}

fn clients(page: &mut Exposition) {
    let resp = &telemetry::RESP;
    let clients = resp.opened.get().saturating_sub(resp.closed.get());
    page.gauge(
        "cohortist_resp_clients",
        "Redis clients connected to --resp.",
    )
    .sample(&[], clients);
    let commands = resp.commands.histogram();
    page.counter(
        "cohortist_resp_commands_total",
        "Commands of Redis clients answered.",
    )
    .sample(&[], commands.count);
    let help = "Time until the reply to a command was ready; commands carried out together count the time of all.";
    page.histogram("cohortist_resp_command_seconds", help)
        .distribution(&[], &commands);
    page.counter(
        "cohortist_auth_failures_total",
        "Wrong passwords (resp) and wrong write tokens (http).",
    )
    .sample(&[("listener", "http")], telemetry::TOKEN_FAILURES.get())
    .sample(&[("listener", "resp")], resp.auth_failures.get());
}

fn expiry(page: &mut Exposition) {
    let stores = lock(&EXPIRY);
    let mut bitmaps = page.counter(
        "cohortist_expired_bitmaps_total",
        "Bitmaps that [expire] deleted.",
    );
    for (store, expiry) in &*stores {
        for (kind, (count, _)) in &expiry.deleted {
            bitmaps.sample(&[("kind", kind), ("store", store)], count);
        }
    }
    let help = "Approximate size of the bitmaps that [expire] deleted, where it is known.";
    let mut bytes = page.counter("cohortist_expired_bytes_total", help);
    for (store, expiry) in &*stores {
        for (kind, (_, count)) in &expiry.deleted {
            bytes.sample(&[("kind", kind), ("store", store)], count);
        }
    }
    let mut failures = page.counter(
        "cohortist_expire_failures_total",
        "How often [expire] failed.",
    );
    for (store, expiry) in &*stores {
        failures.sample(&[("store", store)], expiry.failures);
    }
    let help = "How often [expire] deleted nothing because even the newest bitmap would have gone: check the clock.";
    let mut refused = page.counter("cohortist_expire_refused_total", help);
    for (store, expiry) in &*stores {
        refused.sample(&[("store", store)], expiry.refused);
    }
    let help = "When [expire] was last carried out, in seconds since 1970.";
    let mut done = page.gauge("cohortist_expire_last_success_timestamp_seconds", help);
    for (store, expiry) in &*stores {
        done.known(&[("store", store)], expiry.done);
    }
}

fn process(page: &mut Exposition) {
    let process = Process::now();
    let process = process.as_ref();
    page.counter(
        "process_cpu_seconds_total",
        "Processor time used, in seconds.",
    )
    .known(&[], process.map(|process| process.cpu_seconds));
    page.gauge("process_resident_memory_bytes", "Memory in use.")
        .known(&[], process.map(|process| process.resident_bytes));
    page.gauge("process_virtual_memory_bytes", "Address space in use.")
        .known(&[], process.map(|process| process.virtual_bytes));
    page.gauge("process_open_fds", "Open file descriptors.")
        .known(&[], process.map(|process| process.open_fds));
    page.gauge("process_max_fds", "How many file descriptors may be open.")
        .known(&[], process.and_then(|process| process.max_fds));
    page.gauge("process_threads", "Threads of the process.")
        .known(&[], process.map(|process| process.threads));
    page.gauge(
        "process_start_time_seconds",
        "When the process was started, in seconds since 1970.",
    )
    .known(&[], process.map(|process| process.started));
}
