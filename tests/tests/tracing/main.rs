//! Traces of the three daemons, as a collector of OTLP gets them.

mod collectors;
mod questions;
mod sampling;
mod webhooks;
mod world;
