//! How a request's body arrives: bounded, and never waited for endlessly.

use std::pin::pin;

use actix_web::HttpRequest;
use actix_web::rt::time::timeout;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use futures_util::future::{Either, select};

use crate::server::Live;
use crate::server::error::WebError;

/// The whole body. A client may take its time, but not stop: the next bytes must come within the
/// server's patience.
///
/// # Errors
/// When it is longer than `most` bytes, stops arriving, or ends before it is whole; or when the
/// server stops.
pub async fn body(
    request: &HttpRequest,
    mut payload: Payload,
    most: usize,
) -> Result<Bytes, WebError> {
    let live = request.app_data::<Live>().ok_or(WebError::NotFound)?;
    let patience = live.patience();
    let arrived = async move {
        let mut body = BytesMut::new();
        loop {
            match timeout(patience, payload.next()).await {
                Err(_) => return Err(WebError::Stalled(patience)),
                Ok(None) => return Ok(body.freeze()),
                Ok(Some(Err(_))) => return Err(WebError::BrokenOff),
                Ok(Some(Ok(piece))) if body.len() + piece.len() > most => {
                    return Err(WebError::TooLarge(most));
                }
                Ok(Some(Ok(piece))) => body.extend_from_slice(&piece),
            }
        }
    };
    unless_cut_off(Some(live), arrived).await
}

/// The outcome of some work, or [`WebError::Stopping`] once a server that is stopping has waited
/// long enough for it.
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
