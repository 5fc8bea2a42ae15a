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
        let place = if in_memory {
            String::new()
        } else {
            format!(" --store {}", words::quoted(&store.location))
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
