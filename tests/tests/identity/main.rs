//! Who may do what: every way to prove who one is, and every operation of the three daemons by what it needs.

mod believed;
mod everything_on;
#[path = "../audit/file.rs"]
#[expect(dead_code, reason = "shared with the tests of the audit, which use all of it")]
mod file;
mod http;
#[path = "../tls/installation.rs"]
#[expect(dead_code, reason = "shared with the tests of TLS, which use all of it")]
mod installation;
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
