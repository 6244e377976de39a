//! HAPI's clock face: `res_updated` is written in the JVM's default time zone, without saying so.

use chrono::{DateTime, Datelike, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

/// The time zone of HAPI's JVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(pub Tz);

impl std::str::FromStr for Zone {
    type Err = chrono_tz::ParseError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.parse().map(Self)
    }
}

impl Zone {
    /// What a server should run in.
    pub const UTC: Self = Self(Tz::UTC);

    /// The instant of a `res_updated`, and its offset, as HAPI's own driver reads it: an hour that occurs twice is the second one (standard time),
    /// one that does not occur is moved on by the step.
    pub fn instant(self, local: NaiveDateTime) -> DateTime<Tz> {
        if self.0 == Tz::UTC {
            return Tz::UTC.from_utc_datetime(&local);
        }
        match self.0.from_local_datetime(&local) {
            LocalResult::Single(t) | LocalResult::Ambiguous(_, t) => t,
            LocalResult::None => {
                let before = self.0.offset_from_utc_datetime(&(local - TimeDelta::days(1)));
                self.0.from_utc_datetime(&(local - before.fix()))
            }
        }
    }

    /// The earliest clock face that any instant from `bound` to `until` can show: with the clock set back in between, later instants show
    /// earlier times than `bound` itself.
    pub fn floor(self, bound: DateTime<Utc>, until: DateTime<Utc>) -> NaiveDateTime {
        // An offset lasts for weeks; hours are looked at for the first days, since a reading after a longer pause looks at its ends too.
        let hours = (until - bound).num_hours().clamp(0, 24 * 400);
        let offset = |t: DateTime<Utc>| {
            self.0
                .offset_from_utc_datetime(&t.naive_utc())
                .fix()
                .local_minus_utc()
        };
        let lowest = (0..=hours)
            .map(|h| offset(bound + TimeDelta::hours(h)))
            .chain([offset(until), offset(until + TimeDelta::days(1))])
            .min()
            .unwrap_or_default();
        bound.naive_utc() + TimeDelta::seconds(i64::from(lowest))
    }

    /// `meta.lastUpdated` as HAPI writes it: milliseconds and the zone's offset.
    pub fn lexical(t: &DateTime<Tz>) -> String {
        let local = t.naive_local();
        // By hand: a pattern takes ten times as long, and every body has one.
        let mut text = *b"0000-00-00T00:00:00.000+00:00";
        let mut put = |from: usize, digits: usize, value: u32| {
            let mut left = value;
            for byte in text[from..from + digits].iter_mut().rev() {
                *byte = b'0' + (left % 10).to_le_bytes()[0];
                left /= 10;
            }
        };
        let offset = t.offset().fix().local_minus_utc();
        put(0, 4, local.year().unsigned_abs());
        put(5, 2, local.month());
        put(8, 2, local.day());
        put(11, 2, local.hour());
        put(14, 2, local.minute());
        put(17, 2, local.second());
        put(20, 3, local.nanosecond() / 1_000_000);
        put(24, 2, offset.unsigned_abs() / 3600);
        put(27, 2, offset.unsigned_abs() / 60 % 60);
        if offset < 0 {
            text[23] = b'-';
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn last_updated_has_milliseconds_and_the_zones_offset() {
        let lexical = |zone, text| Zone::lexical(&Zone(zone).instant(local(text)));
        assert_eq!(
            lexical(Tz::UTC, "2026-11-22T10:06:51.646"),
            "2026-11-22T10:06:51.646+00:00"
        );
        assert_eq!(
            lexical(Tz::UTC, "2026-11-22T10:06:51"),
            "2026-11-22T10:06:51.000+00:00"
        );
        assert_eq!(
            lexical(Tz::America__New_York, "2026-11-22T05:13:37.082"),
            "2026-11-22T05:13:37.082-05:00"
        );
        assert_eq!(
            lexical(Tz::Asia__Kolkata, "2026-11-22T05:13:37.08"),
            "2026-11-22T05:13:37.080+05:30"
        );
    }

    #[test]
    fn an_hour_that_occurs_twice_or_never_is_read_as_the_driver_does() {
        let berlin = Zone(Tz::Europe__Berlin);
        assert_eq!(
            berlin.instant(local("2026-10-25T02:30:00")).to_utc(),
            utc("2026-10-25T01:30:00Z")
        );
        assert_eq!(
            berlin.instant(local("2026-03-29T02:30:00")).to_utc(),
            utc("2026-03-29T01:30:00Z")
        );
        assert_eq!(
            berlin.instant(local("2026-07-01T12:00:00")).to_utc(),
            utc("2026-07-01T10:00:00Z")
        );
    }

    #[test]
    fn the_floor_lies_before_every_clock_face_after_the_bound() {
        let berlin = Zone(Tz::Europe__Berlin);
        let bound = utc("2026-10-25T00:50:00Z"); // 02:50 summer time
        let floor = berlin.floor(bound, utc("2026-10-25T01:05:00Z"));
        for minutes in 0..180 {
            let t = bound + TimeDelta::minutes(minutes);
            assert!(
                floor <= berlin.0.from_utc_datetime(&t.naive_utc()).naive_local(),
                "{minutes} minutes later"
            );
        }
        let calm = utc("2026-07-01T10:00:00Z");
        assert_eq!(berlin.floor(calm, calm), local("2026-07-01T12:00:00"));
    }
}
