//! How a request's body arrives: bounded, and never waited for endlessly.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;

use actix_web::body::MessageBody;
use actix_web::dev::{self, ServiceRequest, ServiceResponse};
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::middleware::Next;
use actix_web::rt::time::timeout;
use actix_web::web::{Bytes, BytesMut, Payload};
use actix_web::{HttpMessage, HttpRequest};
use futures_util::future::{Either, select};
use futures_util::{StreamExt, stream};

use crate::web::Live;
use crate::web::error::WebError;

/// The whole body. A client may take its time, but not stop: the next bytes must come within the server's patience.
///
/// # Errors
/// When it is longer than `most` bytes, stops arriving, or ends before it is whole; or when the server stops.
pub async fn body(request: &HttpRequest, mut payload: Payload, most: usize) -> Result<Bytes, WebError> {
    let live = request.app_data::<Live>().ok_or(WebError::NotFound)?;
    let patience = live.patience();
    let arrived = async move {
        let mut body = BytesMut::new();
        loop {
            match timeout(patience, payload.next()).await {
                Err(_) => return Err(WebError::Stalled(patience)),
                Ok(None) => return Ok(body.freeze()),
                Ok(Some(Err(_))) => return Err(WebError::BrokenOff),
                Ok(Some(Ok(piece))) if body.len() + piece.len() > most => return Err(WebError::TooLarge(most)),
                Ok(Some(Ok(piece))) => body.extend_from_slice(&piece),
            }
        }
    };
    unless_cut_off(Some(live), arrived).await
}

/// The outcome of some work, or [`WebError::Stopping`] once a server that is stopping has waited long enough for it.
pub async fn unless_cut_off<T>(
    live: Option<&Live>,
    work: impl Future<Output = Result<T, WebError>>,
) -> Result<T, WebError> {
    let Some(live) = live else { return work.await };
    match select(pin!(work), pin!(live.cut_off())).await {
        Either::Left((done, _)) => done,
        Either::Right(_) => Err(WebError::Stopping),
    }
}

/// Keeps a chunked body until its request is answered. The server closes a connection whose body was not read to its end, but
/// if the handler has dropped the body by then, it waits for the last chunk without a limit.
pub async fn held(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if !request.headers().contains_key(TRANSFER_ENCODING) {
        return next.call(request).await;
    }
    let body = Rc::new(RefCell::new(request.take_payload()));
    let read = Rc::clone(&body);
    let pieces = stream::poll_fn(move |context| read.borrow_mut().poll_next_unpin(context));
    request.set_payload(dev::Payload::Stream { payload: Box::pin(pieces) });
    let mut response = next.call(request).await?;
    response.response_mut().extensions_mut().insert(body);
    Ok(response)
}
