//! `at_least`: a replica that holds the versions answers; waiting for them is done at the primary, which has them first.

use api::{Code, ServiceError};

use super::{
    Reads,
    route::{Demand, Route},
    server::Server,
};
use crate::{errors::store_error, shared::Core, visibility};

impl Reads {
    /// The servers for a question, once what must be visible is.
    pub(crate) async fn route(&self, core: &Core, demand: Demand<'_>) -> Result<Route, ServiceError> {
        if demand.versions.is_empty() {
            return Ok(Route::new(self, self.servers(&demand), demand.from));
        }
        if let Some(route) = self.of_a_replica_that_has_them(&demand).await {
            return Ok(route);
        }
        let waiting = visibility::wait_for_versions(
            core,
            demand.versions,
            demand.layers,
            demand.since,
            demand.deadline,
        );
        match self.primary().while_it_answers(waiting).await {
            // A replica would have to come as far first.
            Ok(waited) => waited.map(|()| Route::new(self, vec![self.primary().clone()], None)),
            Err(_) => Err(ServiceError::new(
                Code::Unavailable,
                "freshness.at_least: the primary of the views' PostgreSQL does not answer, and no replica holds the versions: try again",
            )),
        }
    }

    /// Looks at the replica whose turn it is; at all of them where the primary does not answer.
    async fn of_a_replica_that_has_them(&self, demand: &Demand<'_>) -> Option<Route> {
        let servers = self.servers(demand);
        let looked_at = if self.primary().is_lost() {
            servers.len()
        } else {
            1
        };
        for (i, server) in servers.iter().enumerate().take(looked_at) {
            if server.is_primary() {
                continue;
            }
            let Ok(true) = self.has_versions(server, demand).await else {
                continue;
            };
            // Behind one name there may be several servers: the one that is read must have come as far as the one that was looked at.
            let shown = server.while_it_answers(server.beside.shown_until()).await;
            let Ok(Ok(shown)) = shown else { continue };
            let mut servers = servers.clone();
            servers.drain(..i);
            return Some(Route::new(self, servers, demand.from.max(Some(shown))));
        }
        None
    }

    async fn has_versions(&self, server: &Server, demand: &Demand<'_>) -> Result<bool, ServiceError> {
        let store = server.store.at_or_after(demand.from);
        let looking = visibility::are_visible(&store, demand.versions, demand.layers);
        server.while_it_answers(looking).await?.map_err(store_error)
    }
}
