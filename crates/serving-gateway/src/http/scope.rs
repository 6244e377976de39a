//! Whose data is meant: the patients that a request names, and the members of the Groups that it names.

use std::collections::BTreeSet;

use api::{
    Code, Outcome, ServiceError,
    proto::batch::{ReadResourcesRequest, ResourceState, read_resources_request::Reference},
    sql_run::RunRequest,
};
use serde_json::Value;

use crate::{batch_call, shared::Core};

/// Patients that a Group may bring.
const MAX_MEMBERS: usize = 10_000;

/// The patients whose data is meant.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// `None`: all.
    pub(super) patients: Option<BTreeSet<String>>,
    /// The batch layer could not be asked whether the patients exist.
    pub(super) unchecked: bool,
}

/// Looks up what is named; 400 for a patient or a Group that is not there.
pub(super) async fn scope(core: &Core, request: &RunRequest) -> Result<Scope, Outcome> {
    let mut scope = Scope::default();
    if !request.groups.is_empty() {
        scope.patients = Some(members(core, &request.groups).await?);
    }
    if !request.patients.is_empty() {
        let named: BTreeSet<String> = request.patients.iter().cloned().collect();
        scope.unchecked = check_patients(core, &named).await?;
        scope.patients = Some(match scope.patients {
            // Both must hold.
            Some(members) => members.intersection(&named).cloned().collect(),
            None => named,
        });
    }
    Ok(scope)
}

/// True if it could not be checked.
async fn check_patients(core: &Core, named: &BTreeSet<String>) -> Result<bool, Outcome> {
    // Whether somebody exists is for those who may read it; others get rows of those who do.
    if !core.grants.may_read("Patient") {
        return Ok(false);
    }
    let states = match read(core, "Patient", named.iter().cloned()).await {
        Ok(states) => states,
        // A layer that is down makes an answer less, and does not fail it.
        Err(error) if error.code == Code::Unavailable => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let there = states.iter().filter(|state| exists(state)).count();
    if there < named.len() {
        let missing = named.len() - there;
        let what = format!(
            "patient: {missing} of the {} patients that are named do not exist",
            named.len()
        );
        return Err(Outcome::no_such_scope("patient", what));
    }
    Ok(false)
}

/// The patients in these Groups.
async fn members(core: &Core, groups: &[String]) -> Result<BTreeSet<String>, Outcome> {
    core.grants.to_read("group: a Group's members", "Group")?;
    let named: BTreeSet<String> = groups.iter().cloned().collect();
    let count = named.len();
    let states = read(core, "Group", named.into_iter()).await?;
    if states.iter().filter(|state| exists(state)).count() < count {
        let what = "group: a Group that is named does not exist";
        return Err(Outcome::no_such_scope("group", what));
    }
    let mut patients = BTreeSet::new();
    for state in &states {
        let group: Value = serde_json::from_slice(&state.body).map_err(|_| unreadable())?;
        patients.extend(members_of(&group)?);
        if patients.len() > MAX_MEMBERS {
            let what = format!(
                "group: more than {MAX_MEMBERS} members are not served: ask for the patients in parts"
            );
            return Err(Outcome::unsupported("group", what));
        }
    }
    Ok(patients)
}

/// The patients in a Group: its members that are active. A Group by criteria has none that are listed.
fn members_of(group: &Value) -> Result<Vec<String>, Outcome> {
    if group.get("actual") == Some(&Value::Bool(false)) {
        let what =
            "group: a Group that is a definition (actual = false) has no members that could be looked up";
        return Err(Outcome::unsupported("group", what));
    }
    let members = group.get("member").and_then(Value::as_array);
    let active = members
        .into_iter()
        .flatten()
        .filter(|member| member.get("inactive") != Some(&Value::Bool(true)));
    active
        .map(|member| {
            let reference = member.pointer("/entity/reference").and_then(Value::as_str);
            let id = reference.and_then(|reference| reference.strip_prefix("Patient/"));
            // It may be of a version.
            let id = id.and_then(|id| id.split('/').next()).map(str::to_owned);
            id.ok_or_else(|| {
                let what = "group: only Groups whose members are Patients of this server are served";
                Outcome::unsupported("group", what)
            })
        })
        .collect()
}

async fn read(
    core: &Core,
    of: &str,
    ids: impl Iterator<Item = String>,
) -> Result<Vec<ResourceState>, ServiceError> {
    let references = ids.map(|id| Reference {
        resource_type: of.to_owned(),
        id,
        version: 0,
    });
    let request = ReadResourcesRequest {
        references: references.collect(),
    };
    let batch = core.batch.clone();
    let call = || {
        let (mut batch, request) = (batch.clone(), request.clone());
        async move { batch.read_resources(request).await }
    };
    let mut stream = batch_call::begins(batch_call::OF_A_LOOK, call)
        .await?
        .into_inner();
    let mut states = Vec::new();
    while let Some(message) = stream.message().await? {
        states.extend(message.states);
    }
    Ok(states)
}

fn exists(state: &ResourceState) -> bool {
    state.version > 0 && !state.deleted
}

fn unreadable() -> ServiceError {
    ServiceError::new(
        Code::Unavailable,
        "a Group cannot be read as the batch layer has it: see its log",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_the_active_patients() {
        let group = json!({"resourceType": "Group", "actual": true, "member": [
            {"entity": {"reference": "Patient/a"}},
            {"entity": {"reference": "Patient/b/_history/2"}},
            {"entity": {"reference": "Patient/c"}, "inactive": true},
        ]});
        assert_eq!(members_of(&group).expect("patients"), ["a", "b"]);
        assert!(members_of(&json!({"actual": true})).expect("none").is_empty());
    }

    #[test]
    fn groups_that_cannot_be_followed_are_refused() {
        for group in [
            json!({"actual": false}),
            json!({"member": [{"entity": {"reference": "Group/g"}}]}),
            json!({"member": [{"entity": {"reference": "http://elsewhere/Patient/1"}}]}),
            json!({"member": [{"entity": {"display": "x"}}]}),
        ] {
            let refused = members_of(&group).expect_err("refused");
            assert_eq!((refused.status, refused.issues[0].code), (400, "not-supported"));
        }
    }
}
