//! The serving layer: live changes to view tables, questions to answers.

pub mod merge;
pub mod search;
