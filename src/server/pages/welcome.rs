//! The page of a store without events: where it is, what may be wrong, and how to fill it.

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
    /// The page it stands for: `retention`, `events`.
    here: &'static str,
    /// How commands name this store: ` --store PATH --prefix PREFIX`; nothing where none can reach
    /// it.
    options: String,
    /// ` --prefix PREFIX`, where that is not the default.
    prefix: String,
    /// Where there are events instead, and how a server that shows them is started.
    other: Option<(String, String)>,
    /// Keys under the prefix that are not read.
    strays: Option<String>,
}

impl Welcome {
    /// For an empty store, in place of the page `here`.
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
        // Events that lists hide are events all the same.
        let others = view.tracker.other_prefixes(&store.prefix)?;
        let other = words::other_prefixes(store.prefix.as_str(), &others.found, others.complete)
            .zip(others.found.first())
            .map(|(told, (prefix, _))| {
                (
                    words::curly(&told),
                    format!("cohortist{place} --prefix {} serve", words::quoted(prefix)),
                )
            });
        let strays = view.tracker.unparsed_keys();
        let strays = (strays.count > 0).then(|| {
            words::curly(&words::strays(
                store.prefix.as_str(),
                strays.count,
                &strays.example,
            ))
        });
        let prefix = prefix_option(store.prefix.as_str());
        let options = if in_memory {
            String::new()
        } else {
            format!("{place}{prefix}")
        };
        Ok(Welcome {
            // It says more of that itself.
            layout: Layout {
                notes: Vec::new(),
                ..layout
            },
            here,
            options,
            prefix,
            other,
            strays,
            store,
        })
    }
}

/// ` --prefix PREFIX`; nothing for the default one.
fn prefix_option(prefix: &str) -> String {
    if prefix == Prefix::default().as_str() {
        String::new()
    } else {
        format!(" --prefix {}", words::quoted(prefix))
    }
}
