//! Domain types of `researchflow.speed.v1`: what the speed layer hands to the merger.

use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::{
    merge::Mark,
    resource::{Content, State},
};

pub use crate::proto::speed::{speed_service_client, speed_service_server};
use crate::{InvalidField, TraceContext, batch::resource_type, proto::speed as proto, required, time};

/// A state that a reading found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The state.
    pub state: State,
    /// Number of the reading.
    pub n: i64,
    /// Its T.
    pub as_of: DateTime<Utc>,
}

/// The body of a webhook, to be confirmed by a reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The state.
    pub state: State,
    /// By the ingestor's clock.
    pub received: DateTime<Utc>,
    /// The webhook's place in its trace, if that is recorded.
    pub trace: Option<TraceContext>,
}

/// One answer of `Changes`, whole, of one type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeChanges {
    /// The mark, as it was before the readings were read.
    pub mark: Option<Mark>,
    /// All held with n above the cursor, in the order of ids.
    pub readings: Vec<Reading>,
    /// Taken; in the order in which they came.
    pub previews: Vec<Preview>,
}

/// A message of `Changes`' answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangesPart {
    /// Readings of one type.
    Readings(String, Vec<Reading>),
    /// Previews of one type.
    Previews(String, Vec<Preview>),
    /// The answer is whole: marks of each type.
    End(Vec<(String, Option<Mark>)>),
}

/// What `Changes` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Types with the number of the last mark that the caller has applied (0: none).
    pub cursors: Vec<(String, i64)>,
    /// How long the answer may wait.
    pub wait: TimeDelta,
}

impl TryFrom<proto::ChangesRequest> for Changes {
    type Error = InvalidField;

    fn try_from(request: proto::ChangesRequest) -> Result<Self, InvalidField> {
        let cursors = request
            .cursors
            .into_iter()
            .map(|cursor| {
                Ok((
                    resource_type("cursors.resource_type", cursor.resource_type)?,
                    cursor.n,
                ))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if cursors.is_empty() {
            return Err(InvalidField::new(
                "cursors",
                "must name at least one resource type",
            ));
        }
        let wait = match &request.wait {
            Some(wait) => time::span("wait", wait)?.min(TimeDelta::seconds(60)),
            None => TimeDelta::seconds(10),
        };
        Ok(Self { cursors, wait })
    }
}

impl From<&Changes> for proto::ChangesRequest {
    fn from(request: &Changes) -> Self {
        let cursors = request
            .cursors
            .iter()
            .map(|(resource_type, n)| proto::TypeCursor {
                resource_type: resource_type.clone(),
                n: *n,
            })
            .collect();
        Self {
            cursors,
            wait: Some(time::duration(request.wait)),
        }
    }
}

impl From<State> for proto::State {
    fn from(state: State) -> Self {
        let (deleted, body, unreadable) = state.content.into_parts();
        Self {
            id: state.id,
            version: state.version,
            last_updated: Some(time::timestamp(state.last_updated)),
            deleted,
            body,
            unreadable,
        }
    }
}

impl TryFrom<proto::State> for State {
    type Error = InvalidField;

    fn try_from(state: proto::State) -> Result<Self, InvalidField> {
        let content = Content::from_parts(state.deleted, state.body, state.unreadable);
        Ok(Self {
            id: state.id,
            version: state.version,
            last_updated: time::required_datetime("state.last_updated", state.last_updated.as_ref())?,
            content,
        })
    }
}

impl From<Mark> for proto::Mark {
    fn from(mark: Mark) -> Self {
        Self {
            n: mark.n,
            as_of: Some(time::timestamp(mark.as_of)),
        }
    }
}

impl TryFrom<proto::Mark> for Mark {
    type Error = InvalidField;

    fn try_from(mark: proto::Mark) -> Result<Self, InvalidField> {
        Ok(Self {
            n: mark.n,
            as_of: time::required_datetime("mark.as_of", mark.as_of.as_ref())?,
        })
    }
}

impl From<Reading> for proto::Reading {
    fn from(reading: Reading) -> Self {
        Self {
            state: Some(reading.state.into()),
            n: reading.n,
            as_of: Some(time::timestamp(reading.as_of)),
        }
    }
}

impl TryFrom<proto::Reading> for Reading {
    type Error = InvalidField;

    fn try_from(reading: proto::Reading) -> Result<Self, InvalidField> {
        Ok(Self {
            state: required("reading.state", reading.state)?.try_into()?,
            n: reading.n,
            as_of: time::required_datetime("reading.as_of", reading.as_of.as_ref())?,
        })
    }
}

impl From<Preview> for proto::Preview {
    fn from(preview: Preview) -> Self {
        Self {
            state: Some(preview.state.into()),
            received: Some(time::timestamp(preview.received)),
            traceparent: preview.trace.map(|trace| trace.to_string()).unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::Preview> for Preview {
    type Error = InvalidField;

    fn try_from(preview: proto::Preview) -> Result<Self, InvalidField> {
        Ok(Self {
            state: required("preview.state", preview.state)?.try_into()?,
            received: time::required_datetime("preview.received", preview.received.as_ref())?,
            trace: TraceContext::parse(&preview.traceparent),
        })
    }
}

/// Marks as messages.
pub fn type_marks(marks: Vec<(String, Option<Mark>)>) -> Vec<proto::TypeMark> {
    marks
        .into_iter()
        .map(|(resource_type, mark)| proto::TypeMark {
            resource_type,
            mark: mark.map(Into::into),
        })
        .collect()
}

/// Marks from messages.
pub fn marks_of(marks: Vec<proto::TypeMark>) -> Result<Vec<(String, Option<Mark>)>, InvalidField> {
    marks
        .into_iter()
        .map(|mark| Ok((mark.resource_type, mark.mark.map(Mark::try_from).transpose()?)))
        .collect()
}

impl From<ChangesPart> for proto::ChangesResponse {
    fn from(part: ChangesPart) -> Self {
        use proto::changes_response::Part;
        let part = match part {
            ChangesPart::Readings(resource_type, readings) => Part::Readings(proto::Readings {
                resource_type,
                readings: readings.into_iter().map(Into::into).collect(),
            }),
            ChangesPart::Previews(resource_type, previews) => Part::Previews(proto::Previews {
                resource_type,
                previews: previews.into_iter().map(Into::into).collect(),
            }),
            ChangesPart::End(marks) => Part::End(proto::AnswerEnd {
                marks: type_marks(marks),
            }),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<proto::ChangesResponse> for ChangesPart {
    type Error = InvalidField;

    fn try_from(response: proto::ChangesResponse) -> Result<Self, InvalidField> {
        use proto::changes_response::Part;
        Ok(match required("part", response.part)? {
            Part::Readings(part) => Self::Readings(
                part.resource_type,
                part.readings
                    .into_iter()
                    .map(Reading::try_from)
                    .collect::<Result<_, _>>()?,
            ),
            Part::Previews(part) => Self::Previews(
                part.resource_type,
                part.previews
                    .into_iter()
                    .map(Preview::try_from)
                    .collect::<Result<_, _>>()?,
            ),
            Part::End(end) => Self::End(marks_of(end.marks)?),
        })
    }
}
