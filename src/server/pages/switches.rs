//! Views of the same numbers: which cohort is on top, and what the shades cover.

use crate::render::{Order, Scale};
use crate::server::State;
use crate::server::pages::links;
use crate::server::query::PageQuery;

/// A choice between two views of the same numbers.
#[derive(Debug)]
pub struct Switch {
    /// The name of the choice.
    pub legend: &'static str,
    /// Label, address, and whether it is selected.
    pub ways: [(&'static str, String, bool); 2],
}

/// The two views of a page's numbers. `shades` is the scale in use.
pub fn switches(state: &State, asked: &PageQuery, shades: Scale) -> [Switch; 2] {
    let order = |label, order: Order| {
        let to = PageQuery {
            order,
            ..asked.clone()
        };
        (label, links::retention(state, &to), asked.order == order)
    };
    let scale = |label, scale: Scale| {
        let to = PageQuery {
            scale,
            ..asked.clone()
        };
        (label, links::retention(state, &to), shades == scale)
    };
    [
        Switch {
            legend: "On top",
            ways: [
                order("Newest", Order::Newest),
                order("Oldest", Order::Oldest),
            ],
        },
        Switch {
            legend: "Shades",
            ways: [
                scale("0–100%", Scale::Absolute),
                scale("Fitted", Scale::Fitted),
            ],
        },
    ]
}
