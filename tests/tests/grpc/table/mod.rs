//! Every method of every service: a good request, what an empty one gets, and bad ones that only whoever knows the method can think of.

mod batch;
mod serving;
mod speed;

use std::collections::BTreeMap;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tonic::Code;

/// What is known of a method.
pub(crate) struct Row {
    /// A request that is answered.
    pub(crate) good: Vec<u8>,
    /// What is said to it.
    pub(crate) of_good: Code,
    /// What is said to a request with nothing in it.
    pub(crate) of_empty: Code,
    /// Its answer has no end.
    pub(crate) endless: bool,
    /// Fields whose value may stand in a message: names of views, columns and parameters, which whoever has mistyped one wants to see.
    pub(crate) names: &'static [&'static str],
    /// Numbers of which any makes sense.
    pub(crate) any_number: &'static [&'static str],
    /// Fields that may be named in place of another: a value is told by the place that has no use for it.
    pub(crate) instead: &'static [&'static str],
    /// Requests that are bad in ways of their own.
    pub(crate) further: Vec<Bad>,
}

/// A bad request, what it gets, and the field that is to be named.
pub(crate) struct Bad {
    pub(crate) what: &'static str,
    pub(crate) request: Vec<u8>,
    pub(crate) code: Code,
    pub(crate) field: &'static str,
}

impl Row {
    fn of(good: &impl Message) -> Self {
        Self {
            good: good.encode_to_vec(),
            of_good: Code::Ok,
            of_empty: Code::InvalidArgument,
            endless: false,
            names: &[],
            any_number: &[],
            instead: &[],
            further: Vec::new(),
        }
    }

    /// A method that asks for nothing, or whose every field may be left out.
    fn of_nothing(good: &impl Message) -> Self {
        Self {
            of_empty: Code::Ok,
            ..Self::of(good)
        }
    }

    fn bad(mut self, what: &'static str, request: &impl Message, field: &'static str) -> Self {
        self.further.push(Bad {
            what,
            request: request.encode_to_vec(),
            code: Code::InvalidArgument,
            field,
        });
        self
    }
}

/// The methods of the contracts, by path.
pub(crate) fn methods() -> anyhow::Result<BTreeMap<String, MethodDescriptor>> {
    let pool = DescriptorPool::decode(api::FILE_DESCRIPTOR_SET)?;
    let methods = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>());
    Ok(methods
        .map(|method| {
            let service = method.parent_service().full_name().to_owned();
            (format!("/{service}/{}", method.name()), method)
        })
        .collect())
}

/// A good request, as a message of its descriptor.
pub(crate) fn message(method: &MethodDescriptor, row: &Row) -> anyhow::Result<DynamicMessage> {
    Ok(DynamicMessage::decode(method.input(), row.good.as_slice())?)
}

/// What is known of the methods, by path.
pub(crate) fn table() -> BTreeMap<String, Row> {
    [
        ("researchflow.batch.v1.BatchService", batch::rows()),
        ("researchflow.speed.v1.SpeedService", speed::rows()),
        ("researchflow.serving.v1.ServingService", serving::rows()),
    ]
    .into_iter()
    .flat_map(|(service, rows)| {
        rows.into_iter()
            .map(move |(method, row)| (format!("/{service}/{method}"), row))
    })
    .collect()
}
