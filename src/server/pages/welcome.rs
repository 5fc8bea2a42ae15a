//! The page of an empty store: where it is, what may be wrong, and how to fill it.

use askama::Template;

use crate::render::words;
use crate::server::error::WebError;
use crate::server::{Layout, View};
use crate::sets::Prefix;
use crate::store::StoreInfo;

#[derive(Template)]
#[template(path = "welcome.html")]
pub(super) struct Welcome {
    layout: Layout,
    store: StoreInfo,
    /// The page that it replaces: `retention`, `events`.
    here: &'static str,
    /// The options that select this store in commands: ` --store PATH --prefix PREFIX`. Empty for a
    /// store in memory.
    options: String,
    /// The commands that import a file and record a mark, and those that start a server which accepts
    /// marks over HTTP and from Redis clients, and one on Redis.
    import: String,
    mark_in_shell: String,
    start_http: String,
    start_resp: String,
    on_redis: String,
    /// The command that records a mark over HTTP.
    mark: String,
    /// Whether the server accepts marks over HTTP.
    takes_marks: bool,
    /// Whether this process holds the store, so that no other program can write to it.
    is_local: bool,
    /// ` --prefix PREFIX`, if it is not the default.
    prefix: String,
    /// A prefix with events, and the command that serves it.
    other: Option<(String, String)>,
    /// Keys under the prefix that are not read.
    unparsed: Option<String>,
}

impl Welcome {
    /// Returns the page for an empty store, in place of the page `here`.
    pub(super) fn new(
        view: &View,
        layout: Layout,
        store: StoreInfo,
        here: &'static str,
    ) -> Result<Self, WebError> {
        let in_memory = store.location == "memory:";
        let is_embedded = store.kind == "Embedded";
        // A command works from any directory.
        let location = match (in_memory, is_embedded) {
            (false, true) => std::path::absolute(&store.location).map_or_else(
                |_| store.location.clone(),
                |path| path.display().to_string(),
            ),
            _ => store.location.clone(),
        };
        let place = if in_memory {
            String::new()
        } else {
            format!(" --store {}", words::quoted(&location))
        };
        // Hidden events count as well.
        let others = view.tracker.other_prefixes(&store.prefix)?;
        let other = words::other_prefixes(store.prefix.as_str(), &others.found, others.complete)
            .zip(others.found.first())
            .map(|(note, (prefix, _))| {
                (
                    words::curly(&note),
                    format!("cohortist{place} --prefix {} serve", words::quoted(prefix)),
                )
            });
        let unparsed = view.tracker.unparsed_keys();
        let unparsed = (unparsed.count > 0).then(|| {
            words::curly(&words::unparsed_keys(
                store.prefix.as_str(),
                unparsed.count,
                &unparsed.example,
            ))
        });
        let prefix = prefix_option(store.prefix.as_str());
        let options = if in_memory {
            String::new()
        } else {
            format!("{place}{prefix}")
        };
        Ok(Welcome {
            // The page contains the notes itself.
            layout: Layout {
                notes: Vec::new(),
                ..layout
            },
            here,
            import: format!("cohortist{options} import events.csv"),
            mark_in_shell: format!("cohortist{options} mark signup 123"),
            start_http: format!(
                "COHORTIST_WRITE_TOKEN=change-me-16-chars cohortist{options} serve"
            ),
            start_resp: format!("cohortist{options} serve --resp 127.0.0.1:6380"),
            on_redis: format!("cohortist --store redis://localhost:6379/0{prefix} serve"),
            mark: format!(
                "curl -H \"Authorization: Bearer $COHORTIST_WRITE_TOKEN\" http://{}{}/api/v1/marks -d '{{\"event\":\"signup\",\"user\":123}}'",
                view.host, view.base
            ),
            takes_marks: view.dashboard.write_token.is_some() && !view.read_only,
            is_local: is_embedded || in_memory,
            options,
            prefix,
            other,
            unparsed,
            store,
        })
    }
}

/// Returns ` --prefix PREFIX`, or nothing for the default prefix.
fn prefix_option(prefix: &str) -> String {
    if prefix == Prefix::default().as_str() {
        String::new()
    } else {
        format!(" --prefix {}", words::quoted(prefix))
    }
}
