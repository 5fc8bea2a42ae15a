//! Runs blocking work for requests, and limits how much runs at once.

use actix_web::HttpRequest;

use crate::server::View;
use crate::server::admission::Patience;
use crate::server::arrival::unless_cut_off;
use crate::server::error::{Busy, WebError};
use crate::store::cost::{self, Class};
use crate::store::{Cancel, Cost, StoreError};
use crate::tracker::Written;

/// The work to render one value of an answer, in operations on tiles: about a microsecond.
const VALUE_WORK: u64 = 4;

/// Runs work on a thread that may block. All access to stores goes through here. If the client
/// disconnects, the work is cancelled. Use [`admitted`] for questions, which take turns.
pub(super) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let cancel = Cancel::new();
    // Dropped with this future: at its end, or when the client disconnects and the future is no
    // longer polled.
    let _gone = cancel.guard();
    actix_web::web::block(move || cancel.during(work))
        .await
        .map_err(|_| WebError::BrokenOff)?
}

/// Runs work for a request [in its turn](admitted). The work may run more than once and must be
/// repeatable.
pub(super) async fn block<T: Send + 'static>(
    request: &HttpRequest,
    mut work: impl FnMut(&View) -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let view = View::of(request)?;
    let own = view.clone();
    admitted(&view, Patience::Bounded, move || work(&own)).await
}

/// Returns the result of a change. Logs a warning if a power failure may lose it.
pub(super) fn changed<T>(result: crate::Result<T>) -> Result<Written<T>, WebError> {
    let written = Written::of(result)?;
    if let Some(warning) = &written.warning {
        tracing::error!("a change was applied, but a power failure may lose it: {warning}");
    }
    Ok(written)
}

/// Runs work in its turn, see [`run_blocking`]. The work may run more than once and must be
/// repeatable. Ends with [`WebError::Stopping`] if the server stops and no longer waits for it.
pub(super) async fn admitted<T: Send + 'static>(
    view: &View,
    patience: Patience,
    work: impl FnMut() -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    unless_cut_off(view.live.as_ref(), in_turn(view, patience, work)).await
}

async fn in_turn<T: Send + 'static>(
    view: &View,
    patience: Patience,
    mut work: impl FnMut() -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let admission = view.dashboard.admission.clone();
    let mut class = Class::Light;
    let mut turn = None;
    loop {
        // The turn moves into the work: it ends with the work, even if the client has disconnected.
        let run = move || {
            let outcome = cost::within(class, &mut work);
            Ok((outcome, work, turn))
        };
        let (outcome, again, before) = run_blocking(run).await?;
        let Err(WebError::Store(StoreError::Costly(cost))) = outcome else {
            return outcome;
        };
        drop(before);
        work = again;
        let lane = admission.lane(
            view.index,
            view.tracker.is_local(),
            Class::of(cost.work).max(Class::Ordinary),
        );
        class = lane.class();
        turn = lane.turn(patience).await;
        if turn.is_none() {
            admission.refused();
            return Err(WebError::Busy(Busy {
                cost,
                table: None,
                waiting: lane.room(),
            }));
        }
    }
}

/// Makes a large answer take a turn before it is written, even if all its counts are cached:
/// writing takes time, and memory that is only known afterwards.
///
/// # Errors
/// [`StoreError::Costly`], where [`admitted`] then waits for a turn.
pub(super) fn writing(values: usize) -> Result<(), WebError> {
    let cost = || {
        Ok(Cost {
            work: VALUE_WORK * values as u64,
            sets: values,
            ids: 0,
        })
    };
    Ok(cost::check(cost)?)
}
