//! Any bytes as a resource.
#![no_main]

#[path = "../../crates/fhir-core/tests/it/anything.rs"]
mod anything;

libfuzzer_sys::fuzz_target!(|data: &[u8]| anything::check("resource", data));
