//! Cohorts: which patients, how many, and their resources.

mod answers;
mod property;
mod refused;
mod resources;
mod snapshot;

use api::proto::serving::cohort_response::Part;
use api::proto::serving::criterion_tree::Tree;
use api::proto::serving::{
    CohortFooter, CohortHeader, CohortRequest, CohortResource, Criterion, CriterionList, CriterionTree,
    Filter, SearchParameter,
};
use fhir_core::resource::{Content, State};
use fhir_core::view::CompiledView;
use view_store::ViewStore;

use crate::fixture::{Fixture, Gateway, join_type, now};

/// A whole answer.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) header: CohortHeader,
    pub(crate) ids: Vec<String>,
    /// Messages with ids.
    pub(crate) pages: usize,
    pub(crate) resources: Vec<CohortResource>,
    pub(crate) footer: CohortFooter,
}

impl Gateway {
    pub(crate) async fn cohort(
        &self,
        request: impl tonic::IntoRequest<CohortRequest>,
    ) -> Result<Found, tonic::Status> {
        let mut stream = self.client.clone().cohort(request).await?.into_inner();
        let mut found = Found::default();
        let (mut headers, mut footers) = (0, 0);
        while let Some(message) = stream.message().await? {
            assert_eq!(footers, 0, "nothing comes after the footer");
            match message.part {
                Some(Part::Header(header)) => {
                    (found.header, headers) = (header, headers + 1);
                }
                Some(Part::Patients(page)) => {
                    assert!(found.resources.is_empty(), "ids come before resources");
                    found.ids.extend(page.patient_ids);
                    found.pages += 1;
                }
                Some(Part::Resource(resource)) => found.resources.push(resource),
                Some(Part::Footer(footer)) => (found.footer, footers) = (footer, footers + 1),
                None => panic!("an empty part"),
            }
            assert_eq!(headers, 1, "the header comes first, once");
        }
        assert_eq!(footers, 1, "an answer that ends well ends with its footer");
        assert_eq!(
            found.footer.patients_sent,
            i64::try_from(found.ids.len()).expect("few")
        );
        assert_eq!(
            found.footer.resources_sent,
            i64::try_from(found.resources.len()).expect("few")
        );
        Ok(found)
    }
}

/// Patients with a row in a view under filters.
pub(crate) fn filtered(view: &str, filters: Vec<Filter>) -> CriterionTree {
    criterion(Criterion {
        view: view.into(),
        filters,
        ..Default::default()
    })
}

/// Patients with a row in a view under search parameters.
pub(crate) fn searched(view: &str, search: Vec<SearchParameter>) -> CriterionTree {
    criterion(Criterion {
        view: view.into(),
        search,
        ..Default::default()
    })
}

/// Patients with a row in a view.
pub(crate) fn in_view(view: &str) -> CriterionTree {
    filtered(view, vec![])
}

pub(crate) fn criterion(criterion: Criterion) -> CriterionTree {
    tree(Tree::Criterion(criterion))
}

pub(crate) fn all_of(criteria: Vec<CriterionTree>) -> CriterionTree {
    tree(Tree::All(CriterionList { criteria }))
}

pub(crate) fn any_of(criteria: Vec<CriterionTree>) -> CriterionTree {
    tree(Tree::Any(CriterionList { criteria }))
}

pub(crate) fn not(inner: CriterionTree) -> CriterionTree {
    tree(Tree::Negation(Box::new(inner)))
}

fn tree(tree: Tree) -> CriterionTree {
    CriterionTree { tree: Some(tree) }
}

pub(crate) fn request(criteria: CriterionTree) -> CohortRequest {
    CohortRequest {
        criteria: Some(criteria),
        ..Default::default()
    }
}

/// A state with this body.
pub(crate) fn state(id: &str, version: i64, body: impl Into<String>) -> State {
    State {
        id: id.into(),
        version,
        last_updated: now(),
        content: Content::Body(body.into().into_bytes()),
    }
}

pub(crate) fn gone(id: &str, version: i64) -> State {
    State {
        content: Content::Deleted,
        ..state(id, version, "")
    }
}

/// Registers a view: `select` is the inside of its array of selects.
pub(crate) async fn register(
    owner: &ViewStore,
    name: &str,
    resource: &str,
    select: &str,
) -> anyhow::Result<()> {
    let text = format!(
        r#"{{"resourceType": "ViewDefinition", "name": "{name}", "resource": "{resource}", "status": "active", {select}}}"#
    );
    owner
        .put_view(&CompiledView::from_json(&text)?, &text, false)
        .await?;
    Ok(())
}

/// The view `people`, with a row for each of these patients.
pub(crate) async fn people(fixture: &Fixture, states: &[State]) -> anyhow::Result<()> {
    let select = r#""select": [{"column": [{"name": "id", "path": "getResourceKey()"}, {"name": "gender", "path": "gender", "type": "code"}]}]"#;
    register(&fixture.owner, "people", "Patient", select).await?;
    join_type(&fixture.owner, "Patient", 2, states).await
}

pub(crate) fn patient(id: &str, gender: &str) -> State {
    state(
        id,
        1,
        format!(r#"{{"resourceType":"Patient","id":"{id}","gender":"{gender}"}}"#),
    )
}
