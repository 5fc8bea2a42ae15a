//! The files of a retention table.
