//! The freshness contract: what an answer is made of, how old it is, and why it is less than it could be.

use api::{Code, ServiceError, proto::serving as proto, query::Layers, time};
use chrono::{DateTime, TimeDelta, Utc};
use proto::DegradationReason as Reason;
use view_store::{TypeFreshness, ViewState};

use crate::{catalog::View, config::DegradationBounds};

/// The reason of a refusal: `max_staleness` cannot be met.
const TOO_STALE: &str = "TOO_STALE";

/// What is known when an answer is made.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    /// HAPI's time now.
    pub(crate) now: DateTime<Utc>,
    /// `USE_SPEED_LAYER`
    pub(crate) use_speed_layer: bool,
    /// As asked.
    pub(crate) layers: Layers,
    /// `SpeedService`, `BatchService` are known to be down.
    pub(crate) down: [bool; 2],
    /// The views' database takes no writes.
    pub(crate) read_only: bool,
    /// When to call a layer behind.
    pub(crate) bounds: DegradationBounds,
}

impl Circumstances {
    /// The layers that the answer is made of.
    pub(crate) fn effective(&self) -> Layers {
        if self.use_speed_layer {
            self.layers
        } else {
            Layers::Batch
        }
    }
}

/// How fresh an answer is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AnswerFreshness {
    /// Everything committed before is in; `None`: nothing was read yet.
    pub(crate) as_of: Option<DateTime<Utc>>,
    staleness: Option<TimeDelta>,
    message: proto::Freshness,
}

impl AnswerFreshness {
    /// Of an answer from the view's tables.
    pub(crate) fn of_tables(view: &View, known: &TypeFreshness, on: &Circumstances) -> Self {
        let merged = on.effective() == Layers::Merged;
        let as_of = if merged { known.merged() } else { known.batch_as_of };
        let speed_as_of = known.speed_as_of.filter(|_| merged);
        let mut degradations = view_degradations(view);
        if merged {
            let behind = as_of.is_none_or(|at| older(on.now, at, on.bounds.speed_behind_seconds));
            if on.down[0] {
                degradations.push(degradation(
                    Reason::SpeedUnavailable,
                    "the speed layer cannot be reached",
                ));
            } else if behind {
                let what = "the speed layer has not finished a round of reading lately";
                degradations.push(degradation(Reason::SpeedBehind, what));
            }
        } else {
            let why = if on.use_speed_layer {
                "layers = batch"
            } else {
                "USE_SPEED_LAYER=false"
            };
            degradations.push(degradation(Reason::SpeedLayerOff, why));
        }
        if known
            .batch_as_of
            .is_none_or(|at| older(on.now, at, on.bounds.batch_behind_seconds))
        {
            degradations.push(degradation(
                Reason::BatchBehind,
                "the batch has not published lately",
            ));
        }
        if on.read_only {
            let what = "the views' database takes no writes: live changes and refreshes wait";
            degradations.push(degradation(Reason::ViewsReadOnly, what));
        }
        if on.down[1] {
            let what = "the batch layer cannot be reached: views are as they were last known";
            degradations.push(degradation(Reason::BatchUnavailable, what));
        }
        Self::new(
            view,
            as_of,
            known.batch_as_of,
            speed_as_of,
            proto::Source::Materialized,
            on,
            degradations,
        )
    }

    /// Of an answer from the tables of several views: as fresh as the least fresh of them. Of one that names no view there is nothing to be told.
    pub(crate) fn of_all(views: Vec<(&str, TypeFreshness, Self)>, on: &Circumstances) -> Self {
        /// The earlier; what is not known is earlier than all else.
        fn least(times: impl Iterator<Item = Option<DateTime<Utc>>>) -> Option<DateTime<Utc>> {
            times.min().flatten()
        }
        let merged = on.effective() == Layers::Merged;
        let as_of = least(views.iter().map(|(_, _, one)| one.as_of));
        let staleness = as_of.map(|at| (on.now - at).max(TimeDelta::zero()));
        let batch_as_of = least(views.iter().map(|(_, known, _)| known.batch_as_of));
        let speed_as_of = least(views.iter().map(|(_, known, _)| known.speed_as_of)).filter(|_| merged);
        let mut message = proto::Freshness {
            as_of: as_of.map(time::timestamp),
            batch_as_of: batch_as_of.map(time::timestamp),
            speed_as_of: speed_as_of.map(time::timestamp),
            staleness: staleness.map(time::duration),
            source: proto::Source::Materialized.into(),
            speed_layer_enabled: on.use_speed_layer,
            ..Default::default()
        };
        for (name, _, one) in views {
            // Active, unless one is not.
            if ["", ViewState::Active.name()].contains(&message.view_state.as_str()) {
                message.view_state = one.message.view_state;
            }
            for mut degradation in one.message.degradations {
                // These are the same whichever view it is.
                let of_all = matches!(
                    degradation.reason(),
                    Reason::SpeedUnavailable
                        | Reason::BatchUnavailable
                        | Reason::SpeedLayerOff
                        | Reason::ViewsReadOnly
                );
                if !of_all {
                    degradation.detail = format!("{name}: {}", degradation.detail);
                }
                if !message.degradations.contains(&degradation) {
                    message.degradations.push(degradation);
                }
            }
        }
        Self {
            as_of,
            staleness,
            message,
        }
    }

    /// Of an answer from HAPI's raw tables.
    pub(crate) fn of_raw(view: &View, as_of: DateTime<Utc>, on: &Circumstances) -> Self {
        let degradations = view_degradations(view);
        Self::new(
            view,
            Some(as_of),
            None,
            None,
            proto::Source::Raw,
            on,
            degradations,
        )
    }

    fn new(
        view: &View,
        as_of: Option<DateTime<Utc>>,
        batch_as_of: Option<DateTime<Utc>>,
        speed_as_of: Option<DateTime<Utc>>,
        source: proto::Source,
        on: &Circumstances,
        degradations: Vec<proto::Degradation>,
    ) -> Self {
        let staleness = as_of.map(|at| (on.now - at).max(TimeDelta::zero()));
        let message = proto::Freshness {
            as_of: as_of.map(time::timestamp),
            batch_as_of: batch_as_of.map(time::timestamp),
            speed_as_of: speed_as_of.map(time::timestamp),
            staleness: staleness.map(time::duration),
            source: source.into(),
            speed_layer_enabled: on.use_speed_layer,
            degradations,
            view_state: view.registered.state.name().to_owned(),
            ..Default::default()
        };
        Self {
            as_of,
            staleness,
            message,
        }
    }

    /// Where it was read, and why that is less than it could be.
    pub(crate) fn read_at(&mut self, server: String, degradations: Vec<proto::Degradation>) {
        self.message.read_at = server;
        self.message.degradations.extend(degradations);
    }

    /// Up to where in the server's log it shows what was committed.
    pub(crate) fn shown_until(&mut self, position: u64) {
        self.message.position = format!("{position:x}");
    }

    /// So many resources could not be evaluated for the view.
    pub(crate) fn evaluation_errors(&mut self, count: i64) {
        if count > 0 {
            let detail = format!(
                "{count} resources could not be evaluated for this view; sqlonfhir.errors lists those of view tables"
            );
            self.message
                .degradations
                .push(degradation(Reason::EvaluationErrors, detail));
        }
    }

    /// Served or refused, never silently older.
    pub(crate) fn meets(&self, max_staleness: Option<TimeDelta>) -> Result<(), ServiceError> {
        let Some(max) = max_staleness else { return Ok(()) };
        match self.staleness {
            Some(staleness) if staleness <= max => Ok(()),
            Some(staleness) => Err(ServiceError::new(
                Code::Precondition,
                format!(
                    "freshness.max_staleness: the answer would be {} ms old, {} ms were allowed; {}",
                    staleness.num_milliseconds(),
                    max.num_milliseconds(),
                    self.reasons()
                ),
            )
            .because(TOO_STALE)),
            None => Err(ServiceError::new(
                Code::Precondition,
                "freshness.max_staleness: nothing was read of this view's resources yet",
            )
            .because(TOO_STALE)),
        }
    }

    fn reasons(&self) -> String {
        let reasons: Vec<&str> = self
            .message
            .degradations
            .iter()
            .map(|d| d.detail.as_str())
            .collect();
        if reasons.is_empty() {
            "no layer is known to be behind".to_owned()
        } else {
            reasons.join("; ")
        }
    }

    /// As the contract has it.
    pub(crate) fn message(&self) -> proto::Freshness {
        self.message.clone()
    }
}

fn view_degradations(view: &View) -> Vec<proto::Degradation> {
    let mut degradations = Vec::new();
    if view.registered.state == ViewState::Stale {
        let why = view
            .registered
            .reason
            .as_deref()
            .unwrap_or("a rebuild of the view failed");
        degradations.push(degradation(Reason::ViewStale, why));
    }
    degradations
}

fn degradation(reason: Reason, detail: impl Into<String>) -> proto::Degradation {
    proto::Degradation {
        reason: reason.into(),
        detail: detail.into(),
    }
}

fn older(now: DateTime<Utc>, at: DateTime<Utc>, than: std::time::Duration) -> bool {
    (now - at).to_std().is_ok_and(|age| age > than)
}
