#![no_main]

#[path = "../../tests/it/properties/mod.rs"]
#[allow(dead_code)]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::values::check(bytes));
