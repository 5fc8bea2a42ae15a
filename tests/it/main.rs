//! Everything that is tested from outside, in one binary: real parts, found or named as missing,
//! never skipped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    missing_docs
)]

mod agree;
mod api;
mod architecture;
mod archives;
mod axe;
mod backup;
mod bitmapist;
mod browser;
mod browser_ask;
mod browser_charts;
mod browser_flows;
mod browser_grid;
mod browser_pages;
mod browser_read;
mod busy;
mod cached_counts;
mod cancel;
mod cases;
mod cli;
mod cluster;
mod cluster_moves;
mod collect;
mod comparison;
mod copy;
mod copy_all;
mod corpus;
mod damage;
mod dashboard;
mod dated_values;
mod docs;
mod documents;
mod embedded;
mod ended;
mod ends;
mod events;
mod expire;
mod features;
mod first_screen;
mod forget;
mod frequency;
mod full_disk;
mod golden;
mod honest;
mod hostile;
mod http;
mod import;
mod import_cycles;
mod kept_in;
mod kills;
mod large;
mod lifecycle;
mod moments;
mod names;
mod nightly;
mod operator;
mod padded_keys;
mod page_cache;
mod parquet;
mod people;
mod properties;
mod pure;
mod redis_client_tracking;
mod redis_local_eval;
mod redis_store;
mod registry;
mod resp;
mod retention_measures;
mod segment_functions;
mod shares;
mod sparse;
mod statistics;
mod store_contract;
mod strangers;
mod string_ids;
mod support;
mod tracker;
mod transactions;
mod trends;
mod unsynced;
mod upgrade;
mod zones;
