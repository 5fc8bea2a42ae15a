//! Connections of clients, and how long one may stay open in the middle of a request.
//!
//! actix-web limits the time of a connection's first head and of idle connections, and
//! [`arrival`](super::arrival) that of bodies which a handler reads. Three cases are left, and
//! without a limit each would let any client keep a connection open forever: a head that stops
//! arriving on a connection that already answered a request, a body that no handler read to its
//! end, and an answer that is not read.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use actix_web::rt::time::{Sleep, sleep};
use actix_web::web::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How many times the server's patience a client may read nothing of its answer, which is in
/// memory.
const UNREAD: u32 = 6;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// How many reached the application so far.
    begun: Cell<u64>,
    /// How many of them are not answered to the end yet.
    under_way: Cell<u64>,
}

/// A client's connection. It ends, as if the client had closed it, when a head that follows an
/// answered request does not arrive within the server's patience, and when the client reads nothing
/// of an answer for [some times](UNREAD) as long.
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) requests: Rc<Requests>,
    patience: Duration,
    /// The head that is arriving.
    head: Option<Head>,
    /// Until when the client must read something, if it has not read all that was written.
    unread: Option<Pin<Box<Sleep>>>,
}

/// A head that began to arrive.
struct Head {
    /// How many requests had begun before it. Once there are more, it is complete.
    behind: u64,
    deadline: Pin<Box<Sleep>>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, patience: Duration) -> Self {
        Connection {
            stream,
            requests: Rc::default(),
            patience,
            head: None,
            unread: None,
        }
    }

    /// Takes note that bytes arrived.
    fn received(&mut self) {
        let begun = self.requests.begun.get();
        let known = self.head.as_ref().is_some_and(|head| head.behind == begun);
        // actix-web answers a first head that is late with 408. What arrives during a request
        // belongs to its body, or begins a head that the idle limit covers after the answer.
        if begun == 0 || known || self.requests.under_way.get() > 0 {
            return;
        }
        self.head = Some(Head {
            behind: begun,
            deadline: Box::pin(sleep(self.patience)),
        });
    }

    /// Whether the head that is arriving is late.
    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let begun = self.requests.begun.get();
        match &mut self.head {
            Some(head) if head.behind == begun => head.deadline.as_mut().poll(cx).is_ready(),
            _ => {
                self.head = None;
                false
            }
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending if this.is_late(cx) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(read) => {
                if buffer.filled().len() > before {
                    this.received();
                }
                Poll::Ready(read)
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if written.is_ready() {
            this.unread = None;
            return written;
        }
        let limit = this.patience * UNREAD;
        let unread = this.unread.get_or_insert_with(|| Box::pin(sleep(limit)));
        match unread.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The outermost middleware: keeps account of the requests of a connection, and closes it behind an
/// answer to a request whose body was not read to its end.
///
/// actix-web closes such a connection only while something still holds the body. Otherwise it waits,
/// without a limit, for the rest of a body in chunks. So the body is held until the answer was sent.
pub(super) async fn occupied<B: MessageBody + Unpin>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Occupied<B>>, actix_web::Error> {
    let under_way = UnderWay::begin(request.request().conn_data::<Rc<Requests>>());
    let payload = SharedPayload(Rc::new(RefCell::new(request.take_payload())));
    if !matches!(*payload.0.borrow(), Payload::None) {
        request.set_payload(Payload::Stream {
            payload: Box::pin(payload.clone()),
        });
    }
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| Occupied {
        body,
        _payload: payload,
        _under_way: under_way,
    }))
}

/// The body of a request, shared by its handler and its answer.
#[derive(Clone)]
struct SharedPayload(Rc<RefCell<Payload>>);

impl Stream for SharedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

/// A request that is not answered to the end yet.
struct UnderWay(Option<Rc<Requests>>);

impl UnderWay {
    fn begin(requests: Option<&Rc<Requests>>) -> Self {
        if let Some(requests) = requests {
            requests.begun.update(|begun| begun + 1);
            requests.under_way.update(|under_way| under_way + 1);
        }
        UnderWay(requests.cloned())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(requests) = &self.0 {
            requests.under_way.update(|under_way| under_way - 1);
        }
    }
}

/// The body of an answer, with what must outlive it.
pub(super) struct Occupied<B> {
    body: B,
    _payload: SharedPayload,
    _under_way: UnderWay,
}

impl<B: MessageBody + Unpin> MessageBody for Occupied<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
