//! The serving gateway on a real PostgreSQL: what a question gets, from which layers, and how fresh.

mod demands;
mod fakes;
mod fixture;
mod http;
mod layers;
mod questions;
