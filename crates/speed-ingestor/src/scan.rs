//! `ScanRecentResources`: what was written lately, as far as it meets the search parameters, and a summary of all of it.

use api::{Code, InvalidField, ServiceError, proto::speed as proto, time};
use chrono::DateTime;
use identity::Grants;
use proto::scan_recent_resources_response::Part;
use tokio::sync::Semaphore;

use crate::{
    search::{Gathered, Search, Summary},
    service::{Speed, count},
    store::Recent,
};

/// Scans at the same time: each holds up to a hundred megabytes.
static SCANS: Semaphore = Semaphore::const_new(4);
/// Resources of one scan at most.
const SCAN_LIMIT: usize = 10_000;

impl Speed {
    /// The whole answer: walks over all that is held since then, and keeps the newest. The summary is last.
    pub(crate) async fn scan(
        &self,
        grants: &Grants,
        request: proto::ScanRecentResourcesRequest,
    ) -> Result<impl Iterator<Item = proto::ScanRecentResourcesResponse> + use<>, ServiceError> {
        let resource_type = api::batch::resource_type("resource_type", request.resource_type)?;
        // Before it is told which types there are.
        grants.to_read(&format!("resource_type: {resource_type}"), &resource_type)?;
        let resource_type = self.known_type("resource_type", resource_type)?;
        let since = match &request.since {
            Some(since) => time::datetime("since", since)?,
            None => DateTime::UNIX_EPOCH,
        };
        let limit = match usize::try_from(request.max_resources) {
            Ok(0) => SCAN_LIMIT,
            Ok(limit) => limit.min(SCAN_LIMIT),
            Err(_) => return Err(InvalidField::new("max_resources", "must not be negative").into()),
        };
        let parameters = request.parameters.iter();
        let parameters = parameters.map(|asked| (asked.name.as_str(), asked.value.as_str()));
        let mut gathered = Gathered::new(Search::new(&resource_type, parameters)?, limit);

        let Ok(_place) = SCANS.try_acquire() else {
            return Err(ServiceError::new(
                Code::Unavailable,
                "too many scans at once: try again",
            ));
        };
        let mut walk = self.store.walk_recent(&resource_type, since).await?;
        while let Some(page) = self.store.next_recent(&mut walk).await? {
            for recent in page {
                gathered.take(recent);
            }
            // Webhooks are answered by the same threads.
            tokio::task::yield_now().await;
        }
        let (newest, summary) = gathered.end();
        Ok(newest.map(resource).chain([ending(summary)]))
    }
}

fn resource(Recent { state, preview }: Recent) -> proto::ScanRecentResourcesResponse {
    proto::ScanRecentResourcesResponse {
        part: Some(Part::State(state.into())),
        preview,
    }
}

fn ending(summary: Summary) -> proto::ScanRecentResourcesResponse {
    let summary = proto::ScanSummary {
        patient_ids: summary.patient_ids,
        total_count: count(summary.total_count),
        truncated: summary.truncated,
        patient_ids_truncated: summary.patient_ids_truncated,
        unreadable_count: count(summary.unreadable_count),
    };
    proto::ScanRecentResourcesResponse {
        part: Some(Part::Summary(summary)),
        preview: false,
    }
}
