//! A reading of HAPI that is whole already, for tests whose HAPI is their own.

use api::ServiceError;
use api::batch::{TypeReading, TypedState};
use fhir_core::merge::Mark;
use fhir_core::resource::State;
use speed_ingestor::tail::{OpenedReading, ReadingPart};

/// Gives its states one by one, and then its end.
#[derive(Debug)]
pub struct Whole {
    /// Number and clock.
    pub mark: Mark,
    /// The type of all states.
    pub resource_type: &'static str,
    /// What was found.
    pub states: std::vec::IntoIter<State>,
    /// What may be concluded.
    pub end: Vec<TypeReading>,
}

impl OpenedReading for Whole {
    fn mark(&self) -> Mark {
        self.mark
    }

    async fn next(&mut self) -> Result<ReadingPart, ServiceError> {
        Ok(match self.states.next() {
            Some(state) => ReadingPart::States(vec![TypedState {
                resource_type: self.resource_type.into(),
                state,
            }]),
            None => ReadingPart::End(std::mem::take(&mut self.end)),
        })
    }
}
