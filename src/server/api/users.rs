//! `DELETE /api/v1/users/{id}`: erases a person.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use crate::server::View;
use crate::server::api::marks::allowed;
use crate::server::error::WebError;
use crate::server::query::{Field, Problem};
use crate::server::request_id::RequestId;
use crate::server::respond::answer;
use crate::server::view::{decoded, last_part};
use crate::server::work::{block, changed};
use crate::tracker::{Error, Forgotten, Written};

#[derive(Serialize)]
struct Erased {
    user: String,
    /// What was there. Missing if the change could not be synced, see `warning`.
    #[serde(flatten)]
    had: Option<Had>,
    /// A warning, although everything was erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
}

#[derive(Serialize)]
struct Had {
    bitmaps: usize,
    events: BTreeSet<String>,
    string_id: bool,
}

impl From<Forgotten> for Had {
    fn from(forgotten: Forgotten) -> Self {
        Had {
            bitmaps: forgotten.bitmaps,
            events: forgotten.events.iter().map(ToString::to_string).collect(),
            string_id: forgotten.string_id,
        }
    }
}

/// `DELETE /api/v1/users/{id}`
pub async fn delete(request: HttpRequest) -> HttpResponse {
    let erased = erased(&request).await;
    answer(
        &request,
        erased.map(|erased| HttpResponse::Ok().json(erased)),
    )
}

async fn erased(request: &HttpRequest) -> Result<Erased, WebError> {
    allowed(request).await?;
    let user = decoded(last_part(request));
    let id = RequestId::known(request);
    block(request, move |view| forget(view, &user, &id)).await
}

fn forget(view: &View, user: &str, id: &RequestId) -> Result<Erased, WebError> {
    let forgotten = match view.tracker.forget(user) {
        Ok(None) => {
            return Err(WebError::Unknown(format!("no user has the id `{user}`")));
        }
        Err(Error::Ids(error)) => {
            return Err(WebError::Query(vec![Problem::new(
                Field::User,
                error.to_string(),
            )]));
        }
        Ok(Some(forgotten)) => Ok(forgotten),
        Err(error) => Err(error),
    };
    let Written { answer, warning } = changed(forgotten)?;
    // The log must not keep the id.
    let bitmaps = answer.as_ref().map(|had| had.bitmaps);
    tracing::info!(request_id = %id, bitmaps, "a user was erased");
    Ok(Erased {
        user: user.to_owned(),
        had: answer.map(Had::from),
        warning,
    })
}
