//! Pages kept as they were written.
//!
//! A table that many look at is counted once, and by far the most of the work that is left is
//! writing its page. All that such a page says comes from its address and its [`Validator`]; while
//! that is the same, so is the page, and it is sent as it was, packed as it was. The ground is
//! taken before anything is written on it: what changes meanwhile makes a page look old, and never
//! new.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::ACCEPT_ENCODING;
use actix_web::web::Bytes;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::reports::coverage::Coverage;
use crate::server::Layout;
use crate::sets::{Catalogue, Counts};

/// What a page says that its address does not.
#[derive(Debug)]
pub struct Validator {
    /// The time by which it was written.
    pub now: DateTime<Utc>,
    /// As of when its counts are, in its own words.
    pub as_of: String,
    /// What stands around it: the store, and the others there are.
    pub layout: Layout,
    /// The bitmaps there are.
    pub keys: Arc<Catalogue>,
    /// What they cover.
    pub coverage: Coverage,
    /// What was counted.
    pub counts: Counts,
}

impl PartialEq for Validator {
    fn eq(&self, other: &Self) -> bool {
        // No page tells time closer than by the minute, and no period is shorter.
        let minute = |ground: &Self| ground.now.duration_trunc(TimeDelta::minutes(1)).ok();
        // A list of the same bitmaps is the same list: the tracker sees to that.
        let same_keys = Arc::ptr_eq(&self.keys, &other.keys);
        same_keys
            && minute(self) == minute(other)
            && self.coverage.is_like(&other.coverage)
            && self.as_of == other.as_of
            && self.counts == other.counts
            && self.layout == other.layout
    }
}

/// How a page is packed on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageEncoding {
    /// Not at all.
    Identity,
    /// With gzip.
    Gzip,
}

impl PageEncoding {
    /// How whoever asks wants it. `None` for those who want it otherwise, or leave a choice: for
    /// them it is packed anew.
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

/// A page as it is sent.
#[derive(Debug, Clone)]
pub struct CachedPage {
    /// Its status.
    pub status: StatusCode,
    /// How it is packed.
    pub packing: PageEncoding,
    /// What is sent.
    pub body: Bytes,
}

impl CachedPage {
    /// What is on it.
    pub fn text(self) -> String {
        let mut text = String::new();
        let read = match self.packing {
            PageEncoding::Identity => (&*self.body).read_to_string(&mut text),
            PageEncoding::Gzip => GzDecoder::new(&*self.body).read_to_string(&mut text),
        };
        debug_assert!(read.is_ok(), "a page is text, and was packed here");
        text
    }

    fn packed(self, packing: PageEncoding) -> Self {
        if packing == PageEncoding::Identity {
            return self;
        }
        let mut packer =
            GzEncoder::new(Vec::with_capacity(self.body.len() / 3), Compression::fast());
        // A list takes all that is written into it.
        match packer.write_all(&self.body).and_then(|()| packer.finish()) {
            Ok(body) => CachedPage {
                packing,
                body: body.into(),
                ..self
            },
            Err(_) => self,
        }
    }
}

impl From<(StatusCode, String)> for CachedPage {
    fn from((status, page): (StatusCode, String)) -> Self {
        // No name holds a NUL, but an address may, and no page should.
        let page = if page.contains('\0') {
            page.replace('\0', "\u{fffd}")
        } else {
            page
        };
        CachedPage {
            status,
            packing: PageEncoding::Identity,
            body: page.into(),
        }
    }
}

/// Which page: of which store, by its place on the dashboard; its address there; and how it is
/// packed.
pub type Place = (usize, String, PageEncoding);

type Page = Arc<(Validator, CachedPage)>;

#[derive(Clone)]
struct Weights;

impl Weighter<Place, Page> for Weights {
    fn weight(&self, (_, address, _): &Place, page: &Page) -> u64 {
        let (ground, sheet) = &**page;
        (512 + address.len() + 8 * ground.counts.as_slice().len() + sheet.body.len()) as u64
    }
}

/// Pages that were written, as many as there is room for. Clones share them.
#[derive(Clone, Default)]
pub struct PageCache(Option<Arc<PageMap>>);

struct PageMap {
    pages: Cache<Place, Page, Weights>,
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
    /// Room for so many bytes of pages; none are kept by [`default`](Self::default).
    pub fn new(bytes: u64) -> Self {
        Self::counted(bytes, Arc::default())
    }

    fn counted(bytes: u64, sent: Arc<AtomicU64>) -> Self {
        let pages = usize::try_from(bytes / (16 << 10)).unwrap_or(usize::MAX);
        let pages = Cache::with_weighter(pages.max(16), bytes, Weights);
        PageCache(Some(Arc::new(PageMap { pages, bytes, sent })))
    }

    /// As much room, and nothing in it: for a dashboard whose pages say other things at the same
    /// addresses.
    pub fn anew(&self) -> Self {
        self.0.as_ref().map_or_else(Self::default, |shelf| {
            Self::counted(shelf.bytes, Arc::clone(&shelf.sent))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |shelf| shelf.pages.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pages were sent as they were.
    pub fn sent(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |shelf| shelf.sent.load(Ordering::Relaxed))
    }

    /// The page of a place, if it was written on the same ground.
    pub fn find(&self, place: &Place, ground: &Validator) -> Option<CachedPage> {
        let shelf = self.0.as_ref()?;
        let page = shelf.pages.get(place).filter(|page| page.0 == *ground)?;
        shelf.sent.fetch_add(1, Ordering::Relaxed);
        Some(page.1.clone())
    }

    /// Packs a page that was written on some ground, and keeps it.
    pub fn keep(&self, place: Place, ground: Validator, sheet: CachedPage) -> CachedPage {
        let Some(shelf) = &self.0 else { return sheet };
        let sheet = sheet.packed(place.2);
        shelf.pages.insert(place, Arc::new((ground, sheet.clone())));
        sheet
    }
}
