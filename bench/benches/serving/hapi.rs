//! HAPI's side: versions written into its tables as HAPI writes them.

use std::collections::HashMap;

use e2e::tables::{self, Version};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

/// Writes versions of resources, each in a transaction of its own unless it is told otherwise.
pub(crate) struct Hapi {
    connection: PgConnection,
    /// HAPI's row number and the current version of what was written before.
    known: HashMap<String, (i64, i64)>,
}

/// A version that is committed.
pub(crate) struct Written {
    pub(crate) id: String,
    /// As HAPI delivers it.
    pub(crate) body: Value,
}

impl Hapi {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            connection: PgConnection::connect(url).await?,
            known: HashMap::new(),
        })
    }

    /// The next version of a patient.
    pub(crate) async fn patient(&mut self, number: i64, birth_date: &str) -> anyhow::Result<Written> {
        let body =
            json!({"resourceType": "Patient", "active": true, "gender": "female", "birthDate": birth_date});
        self.write("Patient", format!("p{number}"), body).await
    }

    /// The next version of an observation.
    pub(crate) async fn observation(&mut self, number: i64) -> anyhow::Result<Written> {
        let body = json!({
            "resourceType": "Observation", "status": "final", "subject": {"reference": format!("Patient/p{number}")},
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "718-7", "display": "Hemoglobin"}]},
            "effectiveDateTime": "2026-01-31T10:00:00Z", "valueQuantity": {"value": 12.5, "unit": "g/dL"},
        });
        self.write("Observation", format!("o{number}"), body).await
    }

    /// Several at once.
    pub(crate) async fn begin(&mut self) -> anyhow::Result<()> {
        self.run("BEGIN").await
    }

    pub(crate) async fn commit(&mut self) -> anyhow::Result<()> {
        self.run("COMMIT").await
    }

    async fn run(&mut self, sql: &'static str) -> anyhow::Result<()> {
        sqlx::raw_sql(sql).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn write(
        &mut self,
        resource_type: &'static str,
        id: String,
        mut body: Value,
    ) -> anyhow::Result<Written> {
        let known = match self.known.get(&id) {
            Some(known) => Some(*known),
            // Written by another one of these.
            None => tables::find(&mut self.connection, &id).await?,
        };
        let version = known.map_or(FIRST, |(_, version)| version) + 1;
        let updated = tables::now(&mut self.connection).await?;
        let stored = body.to_string();
        let written = Version {
            resource_type,
            id: &id,
            version,
            updated,
            stored: Some(&stored),
        };
        tables::write(&mut self.connection, known.map(|(row, _)| row), &written).await?;
        let row = match known {
            Some((row, _)) => row,
            None => tables::find(&mut self.connection, &id)
                .await?
                .map_or(0, |(row, _)| row),
        };
        self.known.insert(id.clone(), (row, version));
        body["id"] = id.clone().into();
        body["meta"] = json!({"versionId": version.to_string(), "lastUpdated": format!("{}Z", updated.format("%FT%T%.3f"))});
        Ok(Written { id, body })
    }
}

/// The version of the rows that the batch has.
pub(crate) const FIRST: i64 = 1;
