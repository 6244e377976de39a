//! What both layers share, and nothing that touches the world: no IO, no async, no clock.
//!
//! ```text
//! ViewDefinition (JSON) ──parse──► definition ──validate, compile──► CompiledView ──evaluate(Resource)──► rows of Cells
//! State (a reading or a preview of one resource) ──merge::{outranks, shows_preview}──► shown or not
//! ```
//!
//! Both the batch and the speed path evaluate the same [`view::CompiledView`] over the same JSON text, so equal resources give
//! equal rows. What is later than what is decided in [`merge`] alone, by the numbers of readings.

pub mod column;
pub mod fhirpath;
pub mod json;
pub mod merge;
pub mod number;
pub mod resource;
pub mod row;
pub mod view;
