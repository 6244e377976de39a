//! Domain types of `researchflow.serving.v1`.

pub use crate::proto::serving::{serving_service_client, serving_service_server};
use fhir_core::column::Column;

impl From<&Column> for crate::proto::serving::Column {
    fn from(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            sql_type: column.sql_type(),
            fhir_type: column.fhir_type.clone().unwrap_or_default(),
            description: column.description.clone().unwrap_or_default(),
            collection: column.collection,
        }
    }
}

impl From<&Column> for crate::proto::batch::Column {
    fn from(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            sql_type: column.sql_type(),
            fhir_type: column.fhir_type.clone().unwrap_or_default(),
            description: column.description.clone().unwrap_or_default(),
            collection: column.collection,
        }
    }
}
