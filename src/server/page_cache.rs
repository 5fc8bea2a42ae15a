//! The cache of rendered pages.
//!
//! A table that many people look at is counted once. Most of the remaining work is rendering and
//! compressing its page. Everything on such a page follows from its address and its [`Validator`].
//! While both are the same, the cached page is sent as it is, or a client that has it gets a 304.
//! The validator is taken before the page is rendered: a change in between can make a page look
//! outdated, but never current.

use std::fmt;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, EntityTag};
use actix_web::web::Bytes;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::reports::coverage::Coverage;
use crate::server::Layout;
use crate::server::request_id::random_id;
use crate::sets::{Catalogue, Counts};

/// What a page shows besides what its address says.
#[derive(Debug)]
pub struct Validator {
    /// The time of rendering.
    pub now: DateTime<Utc>,
    /// The time of the counts, as the page states it.
    pub as_of: String,
    /// The frame of the page.
    pub layout: Layout,
    /// The existing bitmaps.
    pub keys: Arc<Catalogue>,
    /// The periods that they cover.
    pub coverage: Coverage,
    /// The counts.
    pub counts: Counts,
    /// The names of the groups, which depend on earlier counts.
    pub groups: Vec<String>,
}

impl PartialEq for Validator {
    fn eq(&self, other: &Self) -> bool {
        // No page shows the time more precisely than in minutes, and no period is shorter.
        let minute = |validator: &Self| validator.now.duration_trunc(TimeDelta::minutes(1)).ok();
        // The tracker returns the same catalogue as long as the bitmaps are the same.
        let same_keys = Arc::ptr_eq(&self.keys, &other.keys);
        same_keys
            && minute(self) == minute(other)
            && self.coverage.is_like(&other.coverage)
            && self.as_of == other.as_of
            && self.counts == other.counts
            && self.groups == other.groups
            && self.layout == other.layout
    }
}

/// The encoding of a page's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageEncoding {
    /// Not compressed.
    Identity,
    /// Compressed with gzip.
    Gzip,
}

impl PageEncoding {
    /// Returns the encoding that a request accepts. `None` if it accepts another one or several:
    /// its pages are not cached.
    pub fn of(request: &HttpRequest) -> Option<Self> {
        match request
            .headers()
            .get(ACCEPT_ENCODING)
            .map(|header| header.as_bytes())
        {
            None | Some(b"identity") => Some(PageEncoding::Identity),
            Some(b"gzip") => Some(PageEncoding::Gzip),
            Some(_) => None,
        }
    }
}

/// A rendered page.
#[derive(Debug, Clone)]
pub struct CachedPage {
    /// The status.
    pub status: StatusCode,
    /// The encoding of the body.
    pub encoding: PageEncoding,
    /// The encoded body.
    pub body: Bytes,
    /// Identifies this rendering, if the cache holds it.
    pub tag: Option<EntityTag>,
}

impl CachedPage {
    /// Returns the text of the page.
    pub fn text(self) -> String {
        match self.encoding {
            PageEncoding::Identity => String::from_utf8(self.body.into()).expect("pages are UTF-8"),
            PageEncoding::Gzip => {
                let mut text = String::new();
                GzDecoder::new(&*self.body)
                    .read_to_string(&mut text)
                    .expect("the page was compressed by `encoded`");
                text
            }
        }
    }

    fn encoded(self, encoding: PageEncoding) -> Self {
        if encoding == PageEncoding::Identity {
            return self;
        }
        let buffer = Vec::with_capacity(self.body.len() / 3);
        let mut encoder = GzEncoder::new(buffer, Compression::default());
        let body = encoder
            .write_all(&self.body)
            .and_then(|()| encoder.finish())
            .expect("writing to a Vec cannot fail");
        CachedPage {
            encoding,
            body: body.into(),
            ..self
        }
    }
}

impl From<(StatusCode, String)> for CachedPage {
    fn from((status, page): (StatusCode, String)) -> Self {
        // An address may contain a NUL, but HTML may not.
        let page = if page.contains('\0') {
            page.replace('\0', "\u{fffd}")
        } else {
            page
        };
        CachedPage {
            status,
            encoding: PageEncoding::Identity,
            body: page.into(),
            tag: None,
        }
    }
}

/// The key of a page: the index of its store on the dashboard, its address there, and its encoding.
pub type PageKey = (usize, String, PageEncoding);

type Entry = Arc<(Validator, CachedPage)>;

#[derive(Clone)]
struct Weights;

impl Weighter<PageKey, Entry> for Weights {
    fn weight(&self, (_, address, _): &PageKey, entry: &Entry) -> u64 {
        let (validator, page) = &**entry;
        let counts = validator.counts.as_slice();
        (512 + address.len() + size_of_val(counts) + page.body.len()) as u64
    }
}

/// A cache of rendered pages with a limited size. Clones share it.
#[derive(Clone, Default)]
pub struct PageCache(Option<Arc<PageMap>>);

struct PageMap {
    pages: Cache<PageKey, Entry, Weights>,
    bytes: u64,
    sent: Arc<AtomicU64>,
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache")
            .field("len", &self.len())
            .field("sent", &self.sent())
            .finish()
    }
}

impl PageCache {
    /// Creates a cache for this many bytes of pages. The [`default`](Self::default) holds none.
    pub fn new(bytes: u64) -> Self {
        Self::with_counter(bytes, Arc::default())
    }

    fn with_counter(bytes: u64, sent: Arc<AtomicU64>) -> Self {
        let pages = usize::try_from(bytes / (16 << 10)).unwrap_or(usize::MAX);
        let pages = Cache::with_weighter(pages.max(16), bytes, Weights);
        PageCache(Some(Arc::new(PageMap { pages, bytes, sent })))
    }

    /// Returns an empty cache of the same size, for a dashboard whose pages differ at the same
    /// addresses.
    pub fn emptied(&self) -> Self {
        self.0.as_ref().map_or_else(Self::default, |map| {
            Self::with_counter(map.bytes, Arc::clone(&map.sent))
        })
    }

    /// Returns the number of pages.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.pages.len())
    }

    /// Returns whether there are no pages.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many responses came from the cache, those without a body (304) included.
    pub fn sent(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |map| map.sent.load(Ordering::Relaxed))
    }

    /// Returns the page with this key, if it was rendered with an equal validator.
    pub fn find(&self, key: &PageKey, validator: &Validator) -> Option<CachedPage> {
        let map = self.0.as_ref()?;
        let entry = map.pages.get(key).filter(|entry| entry.0 == *validator)?;
        map.sent.fetch_add(1, Ordering::Relaxed);
        Some(entry.1.clone())
    }

    /// Encodes and caches a page. Returns it as it is cached.
    pub fn insert(&self, key: PageKey, validator: Validator, page: CachedPage) -> CachedPage {
        let Some(map) = &self.0 else { return page };
        let page = CachedPage {
            tag: Some(next_tag()),
            ..page.encoded(key.2)
        };
        map.pages.insert(key, Arc::new((validator, page.clone())));
        page
    }
}

/// Returns a tag that no other rendering has, in this process or another.
fn next_tag() -> EntityTag {
    static PROCESS: LazyLock<String> = LazyLock::new(random_id);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    EntityTag::new_weak(format!("{}-{count:x}", *PROCESS))
}
