//! Domain types of `researchflow.batch.v1`: what tail, gateway and operators exchange with the batch layer.

use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::{
    merge::Position,
    resource::{Content, State, is_type},
};

pub use crate::proto::batch::{batch_service_client, batch_service_server};
use crate::{InvalidField, proto::batch as proto, required, time};

impl From<&Position> for proto::Position {
    fn from(position: &Position) -> Self {
        Self {
            n: position.n,
            as_of: Some(time::timestamp(position.as_of)),
            bound: Some(time::timestamp(position.bound)),
            xmin: position.xmin,
            timeline: position.timeline.clone(),
        }
    }
}

impl TryFrom<proto::Position> for Position {
    type Error = InvalidField;

    fn try_from(position: proto::Position) -> Result<Self, InvalidField> {
        Ok(Self {
            n: position.n,
            as_of: time::required_datetime("position.as_of", position.as_of.as_ref())?,
            bound: time::required_datetime("position.bound", position.bound.as_ref())?,
            xmin: position.xmin,
            timeline: position.timeline,
        })
    }
}

/// A state of a resource of a type, as the batch layer reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedState {
    /// Resource type.
    pub resource_type: String,
    /// The state.
    pub state: State,
}

impl From<TypedState> for proto::ResourceState {
    fn from(TypedState { resource_type, state }: TypedState) -> Self {
        let (deleted, body, unreadable) = state.content.into_parts();
        Self {
            resource_type,
            id: state.id,
            version: state.version,
            last_updated: Some(time::timestamp(state.last_updated)),
            deleted,
            body,
            unreadable,
        }
    }
}

impl TryFrom<proto::ResourceState> for TypedState {
    type Error = InvalidField;

    fn try_from(state: proto::ResourceState) -> Result<Self, InvalidField> {
        let content = Content::from_parts(state.deleted, state.body, state.unreadable);
        Ok(Self {
            resource_type: state.resource_type,
            state: State {
                id: state.id,
                version: state.version,
                last_updated: time::required_datetime("state.last_updated", state.last_updated.as_ref())?,
                content,
            },
        })
    }
}

/// What `ReadChanges` is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadChanges {
    /// Types with the position that the caller holds of each.
    pub since: Vec<(String, Option<Position>)>,
    /// Read no versions that are older than this.
    pub window: Option<TimeDelta>,
    /// Go on from these positions even where the batch's watermark is later.
    pub from_here: bool,
}

impl TryFrom<proto::ReadChangesRequest> for ReadChanges {
    type Error = InvalidField;

    fn try_from(request: proto::ReadChangesRequest) -> Result<Self, InvalidField> {
        let since = request
            .since
            .into_iter()
            .map(|since| {
                let resource_type = resource_type("since.resource_type", since.resource_type)?;
                Ok((resource_type, since.position.map(Position::try_from).transpose()?))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if since.is_empty() {
            return Err(InvalidField::new("since", "must name at least one resource type"));
        }
        let window = request
            .window
            .as_ref()
            .map(|window| time::span("window", window))
            .transpose()?;
        Ok(Self {
            since,
            window,
            from_here: request.from_here,
        })
    }
}

impl From<&ReadChanges> for proto::ReadChangesRequest {
    fn from(request: &ReadChanges) -> Self {
        let since = request
            .since
            .iter()
            .map(|(resource_type, position)| proto::TypePosition {
                resource_type: resource_type.clone(),
                position: position.as_ref().map(proto::Position::from),
            })
            .collect();
        Self {
            since,
            window: request.window.map(time::duration),
            from_here: request.from_here,
        }
    }
}

/// One type's part of a finished reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeReading {
    /// Resource type.
    pub resource_type: String,
    /// Where the next reading goes on; `None` where nothing may be concluded.
    pub position: Option<Position>,
    /// A full refresh must come first.
    pub full_refresh_needed: bool,
    /// Number of the batch's watermark.
    pub published_n: i64,
    /// More had changed than a reading takes; a refresh was asked for.
    pub refresh_nudged: bool,
}

impl From<TypeReading> for proto::TypeReading {
    fn from(reading: TypeReading) -> Self {
        Self {
            resource_type: reading.resource_type,
            position: reading.position.as_ref().map(proto::Position::from),
            full_refresh_needed: reading.full_refresh_needed,
            published_n: reading.published_n,
            refresh_nudged: reading.refresh_nudged,
        }
    }
}

impl TryFrom<proto::TypeReading> for TypeReading {
    type Error = InvalidField;

    fn try_from(reading: proto::TypeReading) -> Result<Self, InvalidField> {
        Ok(Self {
            resource_type: reading.resource_type,
            position: reading.position.map(Position::try_from).transpose()?,
            full_refresh_needed: reading.full_refresh_needed,
            published_n: reading.published_n,
            refresh_nudged: reading.refresh_nudged,
        })
    }
}

/// A message of `ReadChanges`'s answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadChangesPart {
    /// First: number and clock of the reading.
    Header {
        /// Number.
        n: i64,
        /// T.
        as_of: DateTime<Utc>,
    },
    /// States, as they are read.
    States(Vec<TypedState>),
    /// Last: the reading is whole.
    Footer(Vec<TypeReading>),
}

impl From<ReadChangesPart> for proto::ReadChangesResponse {
    fn from(part: ReadChangesPart) -> Self {
        use proto::read_changes_response::Part;
        let part = match part {
            ReadChangesPart::Header { n, as_of } => Part::Header(proto::ReadingHeader {
                n,
                as_of: Some(time::timestamp(as_of)),
            }),
            ReadChangesPart::States(states) => Part::States(proto::ReadingStates {
                states: states.into_iter().map(Into::into).collect(),
            }),
            ReadChangesPart::Footer(types) => Part::Footer(proto::ReadingFooter {
                types: types.into_iter().map(Into::into).collect(),
            }),
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<proto::ReadChangesResponse> for ReadChangesPart {
    type Error = InvalidField;

    fn try_from(response: proto::ReadChangesResponse) -> Result<Self, InvalidField> {
        use proto::read_changes_response::Part;
        Ok(match required("part", response.part)? {
            Part::Header(header) => Self::Header {
                n: header.n,
                as_of: time::required_datetime("header.as_of", header.as_of.as_ref())?,
            },
            Part::States(states) => Self::States(
                states
                    .states
                    .into_iter()
                    .map(TypedState::try_from)
                    .collect::<Result<_, _>>()?,
            ),
            Part::Footer(footer) => Self::Footer(
                footer
                    .types
                    .into_iter()
                    .map(TypeReading::try_from)
                    .collect::<Result<_, _>>()?,
            ),
        })
    }
}

/// The name of a resource type, checked to look like one.
pub fn resource_type(field: &'static str, name: String) -> Result<String, InvalidField> {
    if is_type(&name) {
        Ok(name)
    } else {
        Err(InvalidField::new(
            field,
            "must be the name of a FHIR resource type, such as Patient",
        ))
    }
}
