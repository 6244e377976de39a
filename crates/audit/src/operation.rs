//! What is recorded: every method of the contracts and every route of HTTP has its row, and a test holds the table to the descriptors.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::{Deserialize, Serialize};

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Finds rows or resources by what they hold.
    Query,
    /// Gives resources that are named, or all of a time.
    Read,
    /// Puts data, or a definition, in.
    Update,
    /// Takes data, or a definition, away.
    Delete,
    /// Sets work going, or changes what the daemon holds beside data.
    Execute,
}

impl Action {
    /// Whether something is other than before: then it is recorded before it is begun, where that is asked for.
    pub fn changes(self) -> bool {
        matches!(self, Self::Update | Self::Delete | Self::Execute)
    }
}

/// An operation that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// `package.Service/Method`, or `http/…` for a route of HTTP.
    pub name: &'static str,
    /// What it does.
    pub action: Action,
    /// The layers ask it of each other all the time. One that gives nothing out leaves no record, and none of them is refused for the audit's sake: what leaves
    /// the installation is answered by the others.
    pub between_layers: bool,
}

/// Whether an operation is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// It reads or changes.
    Recorded(Operation),
    /// It is not, and why.
    Not(&'static str),
}

const DEFINITIONS: &str = "definitions and states of views: nothing of a patient";
const NUMBERS: &str = "numbers of the service itself";

const fn row(name: &'static str, action: Action) -> (&'static str, Row) {
    let between_layers = false;
    (
        name,
        Row::Recorded(Operation {
            name,
            action,
            between_layers,
        }),
    )
}

const fn between(name: &'static str) -> (&'static str, Row) {
    let (action, between_layers) = (Action::Read, true);
    (
        name,
        Row::Recorded(Operation {
            name,
            action,
            between_layers,
        }),
    )
}

/// `POST` and `GET` of `$sql-run`.
pub const HTTP_SQL_RUN: &str = "http/$sql-run";
/// `POST` and `GET` of `$viewdefinition-run`.
pub const HTTP_VIEW_RUN: &str = "http/$viewdefinition-run";

/// All of them.
pub const TABLE: &[(&str, Row)] = &[
    row("researchflow.serving.v1.ServingService/Query", Action::Query),
    row("researchflow.serving.v1.ServingService/Sql", Action::Query),
    row("researchflow.serving.v1.ServingService/Cohort", Action::Query),
    (
        "researchflow.serving.v1.ServingService/ListViews",
        Row::Not(DEFINITIONS),
    ),
    (
        "researchflow.serving.v1.ServingService/DescribeView",
        Row::Not(DEFINITIONS),
    ),
    (
        "researchflow.serving.v1.ServingService/GetStatistics",
        Row::Not(NUMBERS),
    ),
    row(
        "researchflow.serving.v1.ServingService/ResetStatistics",
        Action::Execute,
    ),
    row(
        "researchflow.serving.v1.ServingService/ClearViewCache",
        Action::Execute,
    ),
    (
        "researchflow.batch.v1.BatchService/ListViews",
        Row::Not(DEFINITIONS),
    ),
    (
        "researchflow.batch.v1.BatchService/WatchViews",
        Row::Not(DEFINITIONS),
    ),
    row("researchflow.batch.v1.BatchService/PutView", Action::Update),
    row("researchflow.batch.v1.BatchService/DropView", Action::Delete),
    row("researchflow.batch.v1.BatchService/Refresh", Action::Execute),
    row(
        "researchflow.batch.v1.BatchService/CancelRefresh",
        Action::Execute,
    ),
    row("researchflow.batch.v1.BatchService/RunView", Action::Query),
    between("researchflow.batch.v1.BatchService/ReadChanges"),
    row("researchflow.batch.v1.BatchService/ReadResources", Action::Read),
    row(
        "researchflow.batch.v1.BatchService/ReadPatientResources",
        Action::Read,
    ),
    row("researchflow.batch.v1.BatchService/Verify", Action::Read),
    ("researchflow.batch.v1.BatchService/GetStatus", Row::Not(NUMBERS)),
    between("researchflow.speed.v1.SpeedService/Changes"),
    row(
        "researchflow.speed.v1.SpeedService/ScanRecentResources",
        Action::Query,
    ),
    (
        "researchflow.speed.v1.SpeedService/Pull",
        Row::Not("waits for a round, and tells its number"),
    ),
    row("researchflow.speed.v1.SpeedService/PutResource", Action::Update),
    row("researchflow.speed.v1.SpeedService/Flush", Action::Delete),
    row(
        "researchflow.speed.v1.SpeedService/RegisterSubscriptions",
        Action::Execute,
    ),
    row("researchflow.speed.v1.SpeedService/Backup", Action::Execute),
    (
        "researchflow.speed.v1.SpeedService/ListBackups",
        Row::Not("names and sizes of backups"),
    ),
    row("researchflow.speed.v1.SpeedService/Restore", Action::Update),
    ("researchflow.speed.v1.SpeedService/GetStatus", Row::Not(NUMBERS)),
    row(HTTP_SQL_RUN, Action::Query),
    row(HTTP_VIEW_RUN, Action::Query),
    ("http/ViewDefinition", Row::Not(DEFINITIONS)),
    ("http/OperationDefinition", Row::Not(DEFINITIONS)),
    ("http/metadata", Row::Not(DEFINITIONS)),
];

static BY_NAME: LazyLock<BTreeMap<&'static str, Row>> = LazyLock::new(|| TABLE.iter().copied().collect());

/// What is known of an operation.
pub fn row_of(name: &str) -> Option<Row> {
    BY_NAME.get(name).copied()
}

fn recorded(name: &str) -> Option<Operation> {
    match row_of(name) {
        Some(Row::Recorded(operation)) => Some(operation),
        Some(Row::Not(_)) | None => None,
    }
}

/// The operation at a path of gRPC, if it is recorded.
pub(crate) fn of_grpc(path: &str) -> Option<Operation> {
    recorded(path.strip_prefix('/')?)
}

/// The operation at a path of the gateway's HTTP, if it is recorded. Some clients write the dollar sign as %24.
pub(crate) fn of_http(path: &str) -> Option<Operation> {
    recorded(name_of_http(path)?)
}

/// The row of a path of the gateway's HTTP, for the test that holds the table to the routes.
pub fn row_of_http(path: &str) -> Option<Row> {
    row_of(name_of_http(path)?)
}

fn name_of_http(path: &str) -> Option<&'static str> {
    let last = path.rsplit('/').next()?;
    let last = last
        .strip_prefix("%24")
        .or_else(|| last.strip_prefix('$'))
        .unwrap_or_default();
    Some(match last {
        "sql-run" => HTTP_SQL_RUN,
        "viewdefinition-run" => HTTP_VIEW_RUN,
        _ if path.starts_with("/ViewDefinition") => "http/ViewDefinition",
        _ if path.starts_with("/OperationDefinition") => "http/OperationDefinition",
        _ if path == "/metadata" => "http/metadata",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_of_every_contract_has_a_row() {
        let contracts: BTreeSet<String> = api::contract::methods()
            .map(|method| method.name.clone())
            .collect();
        assert!(contracts.len() > 20, "{contracts:?}");
        let known: BTreeSet<String> = TABLE
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .filter(|name| !name.starts_with("http/"))
            .collect();
        let forgotten: Vec<_> = contracts.difference(&known).collect();
        assert!(
            forgotten.is_empty(),
            "say in operation.rs whether these are recorded: {forgotten:?}"
        );
        let gone: Vec<_> = known.difference(&contracts).collect();
        assert!(gone.is_empty(), "no contract has {gone:?}");
        assert_eq!(BY_NAME.len(), TABLE.len(), "a row is there twice");
    }

    #[test]
    fn routes_are_known_however_the_dollar_is_written() {
        for path in ["/$sql-run", "/%24sql-run"] {
            assert_eq!(of_http(path).map(|operation| operation.name), Some(HTTP_SQL_RUN));
        }
        for path in ["/ViewDefinition/a/$viewdefinition-run", "/%24viewdefinition-run"] {
            assert_eq!(of_http(path).map(|operation| operation.name), Some(HTTP_VIEW_RUN));
        }
        assert_eq!(of_http("/ViewDefinition/a"), None);
        assert!(row_of_http("/ViewDefinition/a").is_some() && row_of_http("/Patient/a").is_none());
    }
}
