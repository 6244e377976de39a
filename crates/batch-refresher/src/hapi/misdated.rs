//! Versions that are new by their transaction and old by their date: a reading that goes by dates would not find them (rule 1 bounds how far a date may lie
//! before its transaction).
//!
//! HAPI dates versions by its JVM's clock, in its JVM's time zone. All of them off by the same hours means that the zone is another one than was set.

use chrono::{DateTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use fhir_core::merge::Position;
use sqlx::AssertSqlSafe;

use super::{Hapi, HapiError, HapiSnapshot, Zone, snapshot::reach};

/// Versions that are looked at: the newest by their row numbers, which are given out in blocks, but go up.
const NEWEST: i64 = 1_000;
/// Offsets of time zones are multiples of this.
const QUARTER: TimeDelta = TimeDelta::minutes(15);
/// What the times of a clock and a transaction may differ by beside.
const TOLERANCE: TimeDelta = TimeDelta::minutes(2);

/// Zones that are likely, to be named first.
const LIKELY: [Tz; 16] = [
    Tz::UTC,
    Tz::Europe__London,
    Tz::Europe__Berlin,
    Tz::Europe__Helsinki,
    Tz::America__New_York,
    Tz::America__Chicago,
    Tz::America__Denver,
    Tz::America__Los_Angeles,
    Tz::America__Sao_Paulo,
    Tz::Asia__Kolkata,
    Tz::Asia__Shanghai,
    Tz::Asia__Singapore,
    Tz::Asia__Tokyo,
    Tz::Australia__Sydney,
    Tz::Africa__Johannesburg,
    Tz::Asia__Dubai,
];

/// New versions whose date says that they are not.
#[derive(Debug, Clone, Default)]
pub struct Misdated {
    /// Their resources.
    pub ids: Vec<String>,
    /// How far before the position's time the dates lie: the least and the most.
    behind: Option<(TimeDelta, TimeDelta)>,
    /// All versions that were looked at are new, and some of them dated too early, of whichever type: there may be others.
    more: bool,
    /// Different dates.
    dates: usize,
}

impl HapiSnapshot {
    /// Among the newest versions of a type those that may not have been visible at `since` and are dated before its bound.
    pub async fn misdated_since(
        &mut self,
        resource_type: &str,
        since: &Position,
    ) -> Result<Misdated, HapiError> {
        let schema = self.hapi().schema();
        let newest = format!(
            "WITH newest AS (SELECT res_id, res_type, res_updated, (($2 - xmin::text::bigint) & 4294967295) <= $3 AS is_new
                             FROM hfj_res_ver ORDER BY pid DESC LIMIT {NEWEST})"
        );
        let sql = format!(
            "{newest} SELECT {} AS id, v.res_updated FROM newest v JOIN hfj_resource r ON r.res_id = v.res_id{}
             WHERE v.res_type = $4 AND v.res_updated < $1 AND v.is_new{}",
            schema.id, schema.id_join, schema.partition
        );
        let all = format!(
            "{newest} SELECT count(*) FILTER (WHERE is_new) = {NEWEST} AND coalesce(bool_or(is_new AND res_updated < $1), false) FROM newest"
        );
        let zone = self.hapi().inner.zone;
        let floor = zone.floor(since.bound, since.as_of + self.hapi().inner.margin);
        let xmax = i64::try_from(self.xmax).unwrap_or(i64::MAX);
        let reach = reach(self.xmax, since.xmin);
        let doing = "looking for versions of another date";
        let more: bool = sqlx::query_scalar(AssertSqlSafe(all))
            .bind(floor)
            .bind(xmax)
            .bind(reach)
            .fetch_one(self.connection())
            .await
            .map_err(HapiError::of(doing))?;
        let found: Vec<(String, NaiveDateTime)> = sqlx::query_as(AssertSqlSafe(sql))
            .bind(floor)
            .bind(xmax)
            .bind(reach)
            .bind(resource_type)
            .fetch_all(self.connection())
            .await
            .map_err(HapiError::of(doing))?;
        let behind = |updated: &NaiveDateTime| since.as_of - zone.instant(*updated).to_utc();
        let all = || found.iter().map(|(_, updated)| behind(updated));
        let mut dates: Vec<NaiveDateTime> = found.iter().map(|(_, updated)| *updated).collect();
        dates.sort_unstable();
        dates.dedup();
        Ok(Misdated {
            behind: all().min().zip(all().max()),
            more,
            dates: dates.len(),
            ids: found.into_iter().map(|(id, _)| id).collect(),
        })
    }
}

impl Misdated {
    /// Whether versions may have been missed, where none has a right date: nothing tells whether those that were seen are all. Then everything must be
    /// read anew.
    pub fn may_be_more(&self, since: &Position, now: DateTime<Utc>) -> bool {
        self.more || !self.ids.is_empty() && now - since.as_of + TOLERANCE >= QUARTER
    }

    /// What is wrong, if it is the time zone that was set and none has a right date: all are behind by the same quarters of an hour, as far as the time
    /// tells that has passed from the position to now. One date alone says nothing: HAPI touches an old version's row when its tags change.
    pub fn wrong_zone(&self, hapi: &Hapi, since: &Position, now: DateTime<Utc>) -> Option<HapiError> {
        let (least, most) = self.behind.filter(|_| self.dates > 1)?;
        let passed = now - since.as_of + TOLERANCE;
        if passed >= QUARTER {
            return None;
        }
        // A version that was written at some time between the two.
        let quarters = (most + passed).num_seconds() / QUARTER.num_seconds();
        let by = QUARTER * i32::try_from(quarters).ok()?;
        if quarters == 0 || least < by - passed || most > by + TOLERANCE {
            return None;
        }
        let zone = hapi.inner.zone;
        Some(HapiError::Refused(format!(
            "HAPI dates what it writes now {} minutes ago, if its JVM runs in {}: {}",
            by.num_minutes(),
            zone.0,
            advice(zone, -by, now)
        )))
    }
}

/// What to set where the faces of HAPI's clock are ahead by this of what the zone makes of them.
pub(super) fn advice(zone: Zone, ahead: TimeDelta, now: DateTime<Utc>) -> String {
    let offset = |zone: Tz| zone.offset_from_utc_datetime(&now.naive_utc()).fix();
    let ahead = (ahead + QUARTER / 2)
        .num_seconds()
        .div_euclid(QUARTER.num_seconds())
        * QUARTER.num_seconds();
    let right = i64::from(offset(zone.0).local_minus_utc()) + ahead;
    let is_right = |zone: &&Tz| i64::from(offset(**zone).local_minus_utc()) == right;
    let likely = LIKELY
        .iter()
        .find(is_right)
        .or_else(|| TZ_VARIANTS.iter().find(is_right))
        .map(|zone| format!(", now likely {zone} or another one at UTC{}", offset(*zone)))
        .unwrap_or_default();
    format!("set hapi.time_zone to the JVM's zone (-Duser.timezone, else that of its machine){likely}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likely_zone_is_named() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let said = |zone: Tz, ahead| advice(Zone(zone), TimeDelta::minutes(ahead), now);
        assert!(said(Tz::UTC, -300).contains("America/New_York or another one at UTC-05:00"));
        assert!(
            said(Tz::Asia__Tokyo, -541).contains("likely UTC or"),
            "{}",
            said(Tz::Asia__Tokyo, -541)
        );
        assert!(said(Tz::UTC, 331).contains("Asia/Kolkata"));
        assert!(
            !said(Tz::UTC, 20_000).contains("likely"),
            "no zone is that far off"
        );
    }
}
