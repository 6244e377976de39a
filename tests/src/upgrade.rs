//! What the fixture of an upgrade is compared by: the same of the release that has written it, and of the one that goes on with it.

use crate::ask::Reader;

/// By name: what the views show, and what is kept beside them.
pub const SHOWN: [(&str, &str); 5] = [
    (
        "merged",
        "SELECT id, version, family, active FROM sqlonfhir.patient_versions",
    ),
    (
        "batch",
        "SELECT id, version, family, active FROM sqlonfhir_batch.patient_versions",
    ),
    (
        "ledger",
        "SELECT type, id, n, version, layer, received IS NOT NULL FROM sqlonfhir_meta.ledger",
    ),
    ("errors", "SELECT view, id, version FROM sqlonfhir.errors"),
    (
        "marks",
        "SELECT type, speed_n, published_n FROM sqlonfhir_meta.resource_type",
    ),
];

/// What one of them says, as text; `owner` may read everything.
pub async fn shown(owner: &mut Reader, select: &str) -> anyhow::Result<String> {
    let select = format!("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM ({select}) t");
    Ok(owner.value(&select).await?.unwrap_or_default())
}
