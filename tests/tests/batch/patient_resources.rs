//! `ReadPatientResources` over HAPI's tables.

use anyhow::Context as _;
use api::proto::batch as proto;
use tonic::Code;

use crate::{played::Played, served::Client};

/// Of patients and conditions that the service's other tests have left.
pub(crate) async fn are_read(client: &mut Client, played: &Played) -> anyhow::Result<()> {
    let ask = async |types: &[&str], patients: &[&str]| {
        let asked = proto::ReadPatientResourcesRequest {
            resource_types: types.iter().map(|name| (*name).to_owned()).collect(),
            patient_ids: patients.iter().map(|id| (*id).to_owned()).collect(),
        };
        let mut stream = client.clone().read_patient_resources(asked).await?.into_inner();
        let mut states = Vec::new();
        while let Some(message) = stream.message().await? {
            states.extend(message.states);
        }
        Ok::<_, tonic::Status>(states)
    };
    // HAPI's index alone does not make a resource a patient's: its own subject does.
    assert_eq!(ask(&["Condition"], &["a"]).await?, []);
    played.execute(OF_THEMSELVES).await?;
    let both = ask(&["Condition", "Patient"], &["a", "bulk1", "nobody"]).await?;
    let mut keys: Vec<_> = both
        .iter()
        .map(|state| (state.resource_type.as_str(), state.id.as_str()))
        .collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            ("Condition", "c-a"),
            ("Condition", "c-bulk1"),
            ("Patient", "a"),
            ("Patient", "bulk1")
        ]
    );
    assert!(
        both.iter()
            .all(|state| !state.body.is_empty() && state.version > 0)
    );
    assert_eq!(ask(&["Patient"], &["b"]).await?, [], "it is deleted");
    let many = vec!["a"; 10_001];
    for (types, patients, words) in [
        (&["Patient"][..], &[][..], "patient_ids: must be 1 to 10000"),
        (&["Patient"], &many, "patient_ids: must be 1 to 10000"),
        (&[], &["a"], "resource_types: must name at least one"),
        (
            &["Patient", "Patient"],
            &["a"],
            "resource_types: must name each type once",
        ),
        (
            &["Practitioner"],
            &["a"],
            "resource_types: Practitioner has no element",
        ),
        (&["Patients"], &["a"], "resource_types: must be names of FHIR R4"),
    ] {
        let refused = ask(types, patients).await.err().context("refused")?;
        assert!(
            refused.code() == Code::InvalidArgument && refused.message().contains(words),
            "{refused}"
        );
    }
    Ok(())
}

const OF_THEMSELVES: &str = r#"
    UPDATE hfj_res_ver v SET res_text_vc = '{"resourceType":"Condition","subject":{"reference":"Patient/' || substr(r.fhir_id, 3) || '"}}'
        FROM hfj_resource r WHERE r.res_id = v.res_id AND r.res_type = 'Condition'"#;
