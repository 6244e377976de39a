//! The serving gateway on a real PostgreSQL: what a question gets, from which layers, and how fresh.

mod agreement;
mod cohort;
mod connections;
mod degradation;
mod demands;
mod discovery;
mod fakes;
mod fixture;
mod hostile_sizes;
mod hostile_sql;
mod hostile_texts;
mod http;
mod layers;
mod manners;
mod questions;
mod replicas;
mod sql;
mod sql_bounds;
mod sql_freshness;
mod sql_values;
