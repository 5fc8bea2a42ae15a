//! Texts that a store keeps beside its bitmaps.

use std::sync::Arc;

use cohortist::store::embedded::EmbeddedStore;
use cohortist::store::{Options, Store};

use crate::support::stores::each_store;

#[test]
fn a_document_is_replaced_only_as_it_was_read_on_every_store() {
    each_store(|name, store| {
        let text = || store.document("boards").unwrap();
        let replace = |expected, new| store.replace_document("boards", expected, new).unwrap();
        assert_eq!(text(), None, "{name}");
        assert!(!replace(Some("a"), Some("b")), "{name}");
        assert!(replace(None, Some("a")), "{name}");
        assert!(!replace(None, Some("b")), "{name}");
        assert_eq!(text().as_deref(), Some("a"), "{name}");
        // Longer than a tile, with characters of several bytes.
        let long = "Über ☕\n".repeat(20_000);
        assert!(replace(Some("a"), Some(&long)), "{name}");
        assert_eq!(text().as_deref(), Some(&*long), "{name}");
        assert_eq!(store.document("notes").unwrap(), None, "{name}");
        assert!(store.keys("").unwrap().is_empty(), "{name}");
        assert!(replace(Some(&long), None), "{name}");
        assert_eq!(text(), None, "{name}");
    });
}

#[test]
fn changes_by_several_threads_are_not_lost_on_any_store() {
    const THREADS: usize = 4;
    const EACH: usize = 10;
    each_store(|name, store| {
        let append = |line: String| loop {
            let text = store.document("boards").unwrap();
            let longer = format!("{}{line}\n", text.clone().unwrap_or_default());
            let is_done = store.replace_document("boards", text.as_deref(), Some(&longer));
            if is_done.unwrap() {
                return;
            }
        };
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let append = &append;
                scope.spawn(move || (0..EACH).for_each(|n| append(format!("{thread}.{n}"))));
            }
        });
        let text = store.document("boards").unwrap().unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), THREADS * EACH, "{name}: {text}");
    });
}

#[test]
fn a_document_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let open = || EmbeddedStore::open(directory.path(), &Options::default()).unwrap();
    {
        let store: Arc<dyn Store> = Arc::new(open());
        assert!(store.replace_document("boards", None, Some("a")).unwrap());
    }
    assert_eq!(
        (&open() as &dyn Store)
            .document("boards")
            .unwrap()
            .as_deref(),
        Some("a")
    );
}
