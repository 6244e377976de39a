//! The serving gateway on a real PostgreSQL: what a question gets, from which layers, and how fresh.

mod demands;
mod fakes;
mod fixture;
mod hostile_sql;
mod hostile_texts;
mod http;
mod layers;
mod questions;
mod sql;
