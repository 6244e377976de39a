//! Views over resources, from outside: what goes in is JSON text, what comes out are rows or errors.
#![expect(clippy::unwrap_used, reason = "what fails in a test's set-up fails the test")]

mod anything;
mod bounded;
mod columns;
mod deployed_views;
mod duplicates;
mod fhirpath;
mod functions;
mod never_panics;
mod operators;
mod refused;
mod rows;
mod run;
mod seeds;
mod typing;
mod values;
