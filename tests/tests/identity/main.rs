//! Who may do what: every way to prove who one is, and every operation of the three daemons by what it needs.

mod believed;
mod http;
mod jwt;
mod keys;
mod layers;
#[path = "../grpc/made.rs"]
#[expect(dead_code, reason = "shared with the tests of bad input, which use all of it")]
mod made;
mod matrix;
mod rotation;
#[path = "../grpc/table/mod.rs"]
#[expect(dead_code, reason = "shared with the tests of bad input, which use all of it")]
mod table;
mod views;
mod whole;
