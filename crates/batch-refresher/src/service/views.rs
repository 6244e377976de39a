//! The views that a caller names: which of the registered ones it sees, may verify and may run.

use std::collections::BTreeMap;

use api::{Code, InvalidField, ServiceError, proto::batch as proto};
use fhir_core::view::CompiledView;
use identity::Grants;
use tonic::Status;
use view_store::{RegisteredView, StoreError, listed, shortened};

use super::{Batch, refuse};
use crate::conversions;

impl Batch {
    async fn views(&self) -> Result<Vec<proto::View>, Status> {
        let views = self
            .store
            .views()
            .await
            .map_err(|e| conversions::store_error(&e))?;
        Ok(views.into_iter().map(conversions::view).collect())
    }

    /// Those that may be read by whoever asks.
    pub(super) async fn views_for(&self, grants: &Grants) -> Result<Vec<proto::View>, Status> {
        let mut views = self.views().await?;
        views.retain(|view| grants.may_read(&view.resource_type));
        Ok(views)
    }

    /// One that may be read by whoever asks; if there is none of the name, those are named that may be.
    pub(super) async fn view(&self, name: &str, grants: &Grants) -> Result<proto::View, Status> {
        let mut views = self.views().await?;
        if let Some(view) = views.iter().find(|v| v.name == name) {
            grants.to_read(&format!("view {name}"), &view.resource_type)?;
            return Ok(view.clone());
        }
        views.retain(|view| grants.may_read(&view.resource_type));
        let unknown = StoreError::UnknownView {
            name: name.to_owned(),
            known: views.into_iter().map(|v| v.name).collect(),
        };
        Err(conversions::store_error(&unknown).into())
    }

    /// The asked views, or all that are materialised, by type.
    pub(super) async fn views_to_verify(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, Vec<String>>, Status> {
        let views = self.store.views().await;
        let materialised: Vec<RegisteredView> = views
            .map_err(|e| conversions::store_error(&e))?
            .into_iter()
            .filter(|v| v.state.is_materialised())
            .collect();
        if let Some(unknown) = names
            .iter()
            .find(|name| materialised.iter().all(|v| v.name != **name))
        {
            let known: Vec<String> = materialised.iter().map(|v| v.name.clone()).collect();
            let message = format!(
                "there is no materialised view {}; there are: {}",
                shortened(unknown),
                listed(&known)
            );
            return Err(ServiceError::new(Code::NotFound, message).into());
        }
        let mut by_type = BTreeMap::<_, Vec<_>>::new();
        for view in materialised
            .into_iter()
            .filter(|v| names.is_empty() || names.contains(&v.name))
        {
            by_type.entry(view.resource_type).or_default().push(view.name);
        }
        Ok(by_type)
    }

    pub(super) async fn view_to_run(
        &self,
        view: Option<proto::run_view_request::View>,
        grants: &Grants,
    ) -> Result<CompiledView, Status> {
        use proto::run_view_request::View;
        match view {
            Some(View::Name(name)) => {
                let view = self.view(&name, grants).await?;
                // It was valid when it was registered; if it no longer is, the release has changed.
                CompiledView::from_json(&view.definition_json)
                    .map_err(|errors| ServiceError::new(Code::Precondition, errors.to_string()).into())
            }
            Some(View::DefinitionJson(definition)) => CompiledView::from_json(&definition)
                .map_err(|errors| refuse(InvalidField::new("definition_json", errors.to_string()))),
            None => Err(refuse(InvalidField::new(
                "view",
                "must be set: name or definition_json",
            ))),
        }
    }
}
