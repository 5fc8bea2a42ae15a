//! Reports: a question becomes a [`Plan`](crate::sets::Plan) of counts, and the counts become a table. All pure.

pub mod activity;
pub mod figures;
pub mod people;
pub mod retention;
pub mod stats;
pub mod user;
