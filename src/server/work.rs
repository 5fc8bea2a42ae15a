//! The way from a request to work that may block, and when it gets its turn.

use actix_web::HttpRequest;

use crate::server::View;
use crate::server::admission::Patience;
use crate::server::arrival::unless_cut_off;
use crate::server::error::{Busy, WebError};
use crate::store::cost::{self, Class};
use crate::store::{Cancel, Cost, StoreError};
use crate::tracker::Written;

/// What it takes to write one value of an answer, in operations on tiles: about a microsecond.
const VALUE_WORK: u64 = 4;

/// The one crossing from the server's threads to those that may block: whatever asks the store goes
/// through here. When the client is gone, what `work` asks of the store stops. Questions take turns
/// there, see [`admitted`].
pub(super) async fn crossing<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let cancel = Cancel::new();
    // Dropped with this future: after its end, or when the client is gone and nobody polls it any
    // more.
    let _gone = cancel.guard();
    actix_web::web::block(move || cancel.during(work))
        .await
        .map_err(|_| WebError::BrokenOff)?
}

/// Work for a request, [in its turn](admitted). It may run more than once, and must come to the
/// same then.
pub(super) async fn block<T: Send + 'static>(
    request: &HttpRequest,
    mut work: impl FnMut(&View) -> Result<T, WebError> + Send + 'static,
) -> Result<T, WebError> {
    let view = View::of(request)?;
    let own = view.clone();
    admitted(&view, Patience::Bounded, move || work(&own)).await
}

/// What came of a change for a request. What a power cut may lose is logged.
pub(super) fn changed<T>(result: crate::Result<T>) -> Result<Written<T>, WebError> {
    let written = Written::of(result)?;
    if let Some(warning) = &written.warning {
        tracing::error!("a change was made, and a power cut may lose it: {warning}");
    }
    Ok(written)
}

/// Work for a request across the [`crossing`], in its turn. It may run more than once, and must
/// come to the same then. Ends with [`WebError::Stopping`] when a server that is stopping no longer
/// waits for it.
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
    let (mut class, mut turn) = (Class::Light, None);
    loop {
        // The turn goes along: whoever has gone away keeps it until the work has really ended.
        let run = move || {
            let outcome = cost::within(class, &mut work);
            Ok((outcome, work, turn))
        };
        let (outcome, again, before) = crossing(run).await?;
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
