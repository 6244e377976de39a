//! What each operation needs: every method of every service, and every path of the gateway's HTTP. A method or path that stands in no row is refused; a test fails
//! when a contract has one.

use api::{ServiceError, contract};

use crate::{Grants, scope::Right};

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: whoever asks is answered.
    Open,
    /// That the caller has proved who it is.
    Known,
    /// Reading of at least one type; of which ones, the operation itself asks [`Grants`].
    Read,
    /// Reading of every type: a feed of whole resources, between our own services.
    ReadAll,
    /// A right of its own.
    Right(Right),
    /// A right, and reading of every type: it tells ids of any resource.
    RightAndReadAll(Right),
    /// It stands in no row.
    Nobody,
}

use Need::{Known, Nobody, Open, Read, ReadAll, RightAndReadAll};
use Right::{Ingest, Operate, Refresh};

const SERVING: &str = "researchflow.serving.v1.ServingService";
const BATCH: &str = "researchflow.batch.v1.BatchService";
const SPEED: &str = "researchflow.speed.v1.SpeedService";

/// By service and method.
const CALLS: [(&str, &str, Need); 30] = [
    (SERVING, "Query", Read),
    (SERVING, "Sql", Read),
    (SERVING, "Cohort", Read),
    (SERVING, "ListViews", Read),
    (SERVING, "DescribeView", Read),
    (SERVING, "GetStatistics", Known),
    (SERVING, "ResetStatistics", Need::Right(Operate)),
    (SERVING, "ClearViewCache", Need::Right(Operate)),
    (BATCH, "ListViews", Read),
    (BATCH, "WatchViews", Read),
    (BATCH, "PutView", Need::Right(Operate)),
    (BATCH, "DropView", Need::Right(Operate)),
    (BATCH, "Refresh", Need::Right(Refresh)),
    (BATCH, "CancelRefresh", Need::Right(Refresh)),
    (BATCH, "RunView", Read),
    (BATCH, "ReadChanges", ReadAll),
    (BATCH, "ReadResources", ReadAll),
    (BATCH, "ReadPatientResources", ReadAll),
    (BATCH, "Verify", RightAndReadAll(Operate)),
    (BATCH, "GetStatus", Need::Right(Operate)),
    (SPEED, "Changes", ReadAll),
    (SPEED, "ScanRecentResources", Read),
    (SPEED, "Pull", ReadAll),
    (SPEED, "PutResource", Need::Right(Ingest)),
    (SPEED, "Flush", Need::Right(Ingest)),
    (SPEED, "RegisterSubscriptions", Need::Right(Operate)),
    (SPEED, "Backup", Need::Right(Operate)),
    (SPEED, "ListBackups", Need::Right(Operate)),
    (SPEED, "Restore", Need::Right(Operate)),
    (SPEED, "GetStatus", Need::Right(Operate)),
];

/// By path, in the router's notation; whatever the method of HTTP.
const ROUTES: [(&str, Need); 10] = [
    ("/metadata", Open),
    ("/OperationDefinition/{id}", Open),
    ("/ViewDefinition", Read),
    ("/ViewDefinition/{id}", Read),
    ("/$sql-run", Read),
    ("/$viewdefinition-run", Read),
    ("/ViewDefinition/$viewdefinition-run", Read),
    ("/ViewDefinition/{id}/$viewdefinition-run", Read),
    ("/%24sql-run", Read),
    ("/%24viewdefinition-run", Read),
];

/// What a call of gRPC needs, by its path. `None`: no contract has such a method, and whoever asks is told so.
pub(crate) fn of_call(path: &str) -> Option<Need> {
    let method = contract::method(path)?;
    let row = CALLS.iter().find(|(service, name, _)| {
        method
            .name
            .strip_prefix(service)
            .and_then(|rest| rest.strip_prefix('/'))
            == Some(name)
    });
    Some(row.map_or(Nobody, |(_, _, need)| *need))
}

/// What a request of HTTP needs, by the path that the router has for it.
pub(crate) fn of_route(path: &str) -> Need {
    let plain = path.replacen("%24", "$", 1);
    let row = ROUTES.iter().find(|(known, _)| *known == path || *known == plain);
    row.map_or(Nobody, |(_, need)| *need)
}

impl Need {
    /// Whether a caller with these grants may go on, or the refusal.
    pub(crate) fn check(self, grants: &Grants) -> Result<(), ServiceError> {
        let (may, needed) = match self {
            Open | Known => (true, String::new()),
            Read => (
                grants.may_read_some(),
                "this needs a scope that reads a type of resources, such as system/Patient.rs or system/*.rs"
                    .into(),
            ),
            ReadAll => (grants.may_read_all(), "this needs the scope system/*.rs".into()),
            Self::Right(right) => (
                grants.has(right),
                format!("this needs the scope {}", right.scope()),
            ),
            RightAndReadAll(right) => (
                grants.has(right) && grants.may_read_all(),
                format!("this needs the scopes {} and system/*.rs", right.scope()),
            ),
            Nobody => (
                grants.is_everything(),
                "this operation stands in no row of the table of rights: this release cannot allow it".into(),
            ),
        };
        if may { Ok(()) } else { Err(grants.refused(&needed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_every_contract_has_one_row_and_no_row_is_of_none() {
        let methods: Vec<&str> = contract::methods().map(|method| method.name.as_str()).collect();
        assert!(methods.len() >= 30, "{methods:?}");
        for name in &methods {
            let need = of_call(&format!("/{name}")).expect("a method");
            assert_ne!(need, Nobody, "say in table.rs what {name} needs");
            assert_ne!(need, Open, "{name} would be open to everybody");
        }
        for (service, method, _) in CALLS {
            let name = format!("{service}/{method}");
            assert!(methods.contains(&name.as_str()), "no contract has {name}");
            let rows = CALLS.iter().filter(|(s, m, _)| (*s, *m) == (service, method));
            assert_eq!(rows.count(), 1, "{name} has two rows");
        }
        assert_eq!(of_call("/researchflow.serving.v1.ServingService/Quary"), None);
    }

    #[test]
    fn a_path_that_stands_in_no_row_is_closed() {
        assert_eq!(of_route("/metadata"), Open);
        assert_eq!(of_route("/ViewDefinition/{id}/%24viewdefinition-run"), Read);
        assert_eq!(of_route("/something/new"), Nobody);
        assert!(
            Nobody
                .check(&Grants::of(["system/*.rs", "system/researchflow.operate"]))
                .is_err()
        );
    }

    #[test]
    fn needs_are_met_by_their_scopes_and_by_no_other() {
        let holders: [(&str, &[&str]); 6] = [
            ("nobody", &[]),
            ("one type", &["system/Patient.rs"]),
            ("all types", &["system/*.rs"]),
            ("operator", &["system/researchflow.operate"]),
            ("refresher", &["system/researchflow.refresh"]),
            (
                "all types and operator",
                &["system/*.rs", "system/researchflow.operate"],
            ),
        ];
        for (need, may) in [
            (Known, [true, true, true, true, true, true]),
            (Read, [false, true, true, false, false, true]),
            (ReadAll, [false, false, true, false, false, true]),
            (Need::Right(Operate), [false, false, false, true, false, true]),
            (Need::Right(Refresh), [false, false, false, false, true, false]),
            (
                RightAndReadAll(Operate),
                [false, false, false, false, false, true],
            ),
        ] {
            for ((who, scopes), may) in holders.iter().zip(may) {
                let grants = Grants::of(scopes.iter().copied());
                assert_eq!(need.check(&grants).is_ok(), may, "{need:?} of {who}");
            }
        }
    }
}
