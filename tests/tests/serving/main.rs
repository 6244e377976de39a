//! The serving gateway on a real PostgreSQL: what a question gets, from which layers, and how fresh.

mod cohort;
mod demands;
mod discovery;
mod fakes;
mod fixture;
mod layers;
mod questions;
