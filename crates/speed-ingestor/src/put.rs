//! `PutResource`: what a forwarder hands over that is no webhook of HAPI's. It is checked as a webhook's PUT is, and becomes a preview as that does.

use api::{Code, InvalidField, ServiceError, proto::speed as proto, time};
use chrono::TimeDelta;
use proto::PutOutcome;

use crate::{
    body::{Limits, too_large},
    delivery::{self, Delivered},
    gate::Gate,
    measures::{Measures, TypeLabel},
    service::Speed,
};

/// What taking a resource needs besides the store.
#[derive(Debug, Clone)]
pub struct Taking {
    /// Whether Redis may be written to.
    pub gate: Gate,
    /// Bounds of a body, those of the webhook.
    pub limits: Limits,
    /// Metrics.
    pub measures: Measures,
}

impl Speed {
    /// Understands the resource, puts it beside the readings and wakes the tail.
    pub(crate) async fn put(&self, request: &proto::PutResourceRequest) -> Result<PutOutcome, ServiceError> {
        let Taking {
            gate,
            limits,
            measures,
        } = &self.taking;
        let time_to_live = self.time_to_live(request)?;
        if request.body.len() > limits.body_bytes {
            return Err(too_large(limits.body_bytes));
        }
        let Delivered { resource_type, state } =
            delivery::resource(&request.body, limits.depth).map_err(|error| error.at("body"))?;
        if !self.needed.includes(&resource_type) {
            return Ok(PutOutcome::NotNeeded);
        }
        gate.pass()?;
        if !gate.has_room() {
            let message = "redis is nearly full, so previews are not taken: the tail reads what HAPI has";
            return Err(ServiceError::new(Code::Unavailable, message));
        }
        let put = self
            .store
            .put_preview(&resource_type, &state, self.clock.now(), time_to_live)
            .await?;
        let Some(dropped) = put else {
            return Ok(PutOutcome::HeldNewer);
        };
        self.tail.wake();
        if dropped > 0 {
            let label = TypeLabel {
                r#type: self.needed.label(&resource_type),
            };
            measures.previews_dropped.get_or_create(&label).inc_by(dropped);
        }
        Ok(PutOutcome::Taken)
    }

    fn time_to_live(&self, request: &proto::PutResourceRequest) -> Result<Option<TimeDelta>, ServiceError> {
        let Some(asked) = &request.time_to_live else {
            return Ok(None);
        };
        let (span, most) = (time::span("time_to_live", asked)?, self.store.time_to_live());
        if span.is_zero() || span > most {
            let most = most.as_seconds_f64();
            let rule = format!("must be above 0 and at most {most} s (store.time_to_live_seconds)");
            return Err(InvalidField::new("time_to_live", rule).into());
        }
        Ok(Some(span))
    }
}
