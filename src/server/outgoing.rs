//! Answers on their way to clients. What a client has not read yet is in memory, and readers may be
//! slow or many, so all large answers together have a bound. An answer that does not fit becomes a
//! 503; one that has begun is sent to its end.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

use crate::server::error::WebError;
use crate::store::budget::{Budget, Reservation};

/// How many bytes are handed to the connection at once. The connection copies them; the rest waits
/// here, where it is counted. Shorter answers are not counted.
const PIECE: usize = 64 << 10;

/// The memory of all answers that clients have not read yet.
#[derive(Debug)]
pub(super) struct Unread {
    budget: Budget,
    /// The memory of answers that several clients may read at once, such as a cached page, by its
    /// address.
    shared: Mutex<HashMap<usize, Weak<Reservation>>>,
}

impl Unread {
    pub fn new(bytes: u64) -> Self {
        Unread {
            budget: Budget::new(bytes),
            shared: Mutex::default(),
        }
    }

    pub fn used(&self) -> u64 {
        self.budget.used()
    }

    fn error(&self) -> WebError {
        WebError::Unread(self.budget.size())
    }

    /// Reserves the memory of a whole answer.
    fn reserve(&self, bytes: &Bytes) -> Result<Arc<Reservation>, WebError> {
        // An answer larger than the whole budget is sent alone.
        let len = (bytes.len() as u64).min(self.budget.size());
        let reserve = || {
            let reserved = self.budget.reserve(len);
            reserved.map(Arc::new).ok_or_else(|| self.error())
        };
        if bytes.is_unique() {
            return reserve();
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, memory| memory.strong_count() > 0);
        let address = bytes.as_ptr() as usize;
        if let Some(memory) = shared.get(&address).and_then(Weak::upgrade) {
            return Ok(memory);
        }
        let memory = reserve()?;
        shared.insert(address, Arc::downgrade(&memory));
        Ok(memory)
    }

    /// The body of an answer, which gives its memory back when it is sent or dropped.
    pub fn outgoing(&self, body: BoxBody) -> Result<BoxBody, WebError> {
        match body.size() {
            BodySize::None => return Ok(body),
            BodySize::Sized(bytes) if bytes <= PIECE as u64 => return Ok(body),
            BodySize::Sized(_) => {}
            // How long it gets is not known. It begins while there is any memory.
            BodySize::Stream if self.budget.used() >= self.budget.size() => {
                return Err(self.error());
            }
            BodySize::Stream => {}
        }
        let outgoing = match body.try_into_bytes() {
            Ok(bytes) => Outgoing {
                memory: Some(self.reserve(&bytes)?),
                bytes,
                rest: None,
                budget: self.budget.clone(),
            },
            Err(body) => Outgoing {
                memory: None,
                bytes: Bytes::new(),
                rest: Some(body),
                budget: self.budget.clone(),
            },
        };
        Ok(BoxBody::new(outgoing))
    }
}

/// The body of an answer that is sent piece by piece.
struct Outgoing {
    bytes: Bytes,
    /// What `bytes` takes.
    memory: Option<Arc<Reservation>>,
    /// What follows `bytes`, if that is not all.
    rest: Option<BoxBody>,
    budget: Budget,
}

impl MessageBody for Outgoing {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        match self.rest {
            None => BodySize::Sized(self.bytes.len() as u64),
            Some(_) => BodySize::Stream,
        }
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = &mut *self;
        if this.bytes.is_empty() {
            this.memory = None;
            let Some(rest) = &mut this.rest else {
                return Poll::Ready(None);
            };
            match ready!(rest.as_pin_mut().poll_next(cx)) {
                Some(Ok(bytes)) => this.bytes = bytes,
                end => return Poll::Ready(end),
            }
            if this.bytes.len() > PIECE {
                let memory = this.budget.overdraw(this.bytes.len() as u64);
                this.memory = Some(Arc::new(memory));
            }
        }
        let len = this.bytes.len().min(PIECE);
        Poll::Ready(Some(Ok(this.bytes.split_to(len))))
    }
}
