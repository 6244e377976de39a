//! The serving gateway on a real PostgreSQL: what a question gets, from which layers, and how fresh.

mod agreement;
mod demands;
mod fakes;
mod fixture;
mod layers;
mod questions;
