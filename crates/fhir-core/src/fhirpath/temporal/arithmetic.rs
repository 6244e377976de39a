//! A date or time and an amount of calendar time (FHIRPath N1, section 6.7).

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike};

use super::{Precision, Temporal};
use crate::{fhirpath::quantity::Calendar, number::Decimal};

/// The only years that FHIR can write.
const YEARS: std::ops::RangeInclusive<i32> = 1..=9999;

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 86_400 * SECOND;

/// An amount of time, as it is added.
#[derive(Clone, Copy)]
enum Amount {
    Months(i128),
    Nanos(i128),
}

impl Temporal {
    /// Moved by an amount; `None` beyond the years that FHIR can write. The amount is cut to whole units above seconds, and to what was
    /// written of the date; a day that the month does not have is its last. A time of day goes round the clock.
    pub fn plus(self, amount: Decimal, unit: Calendar) -> Option<Self> {
        let amount = Amount::of(amount, unit)?;
        let local = if self.is_time() {
            let Amount::Nanos(nanos) = amount else {
                return None;
            };
            self.local.checked_add_signed(delta(self.cut(nanos) % DAY)?)?
        } else {
            let months = match (amount, self.precision) {
                (Amount::Months(n), Precision::Year) => Some(n / 12 * 12),
                (Amount::Months(n), _) => Some(n),
                (Amount::Nanos(n), Precision::Year) => Some(n / DAY / 365 * 12),
                (Amount::Nanos(n), Precision::Month) => Some(n / DAY / 30),
                (Amount::Nanos(_), _) => None,
            };
            match (months, amount) {
                (Some(months), _) => later(self.local, months)?,
                (None, Amount::Nanos(n)) => self.local.checked_add_signed(delta(self.cut(n))?)?,
                (None, Amount::Months(_)) => return None,
            }
        };
        if !self.is_time() && !YEARS.contains(&local.year()) {
            return None;
        }
        let digits = if self.precision == Precision::Second {
            self.digits.max(digits(local.nanosecond()))
        } else {
            0
        };
        Some(Self {
            local,
            digits,
            ..self
        })
    }

    /// Nanoseconds in whole units of what was written.
    fn cut(self, nanos: i128) -> i128 {
        let unit = match self.precision {
            Precision::Year | Precision::Month | Precision::Day => DAY,
            Precision::Hour => 3_600 * SECOND,
            Precision::Minute => 60 * SECOND,
            Precision::Second => 1,
        };
        nanos - nanos % unit
    }
}

impl Amount {
    fn of(amount: Decimal, unit: Calendar) -> Option<Self> {
        let whole = || amount.truncated().whole();
        Some(match unit {
            Calendar::Year => Self::Months(whole()?.checked_mul(12)?),
            Calendar::Month => Self::Months(whole()?),
            Calendar::Week => Self::Nanos(whole()?.checked_mul(7 * DAY)?),
            Calendar::Day => Self::Nanos(whole()?.checked_mul(DAY)?),
            Calendar::Hour => Self::Nanos(whole()?.checked_mul(3_600 * SECOND)?),
            Calendar::Minute => Self::Nanos(whole()?.checked_mul(60 * SECOND)?),
            Calendar::Second => Self::Nanos(amount.times(Decimal::from(1_000_000_000))?.truncated().whole()?),
            Calendar::Millisecond => {
                Self::Nanos(amount.times(Decimal::from(1_000_000))?.truncated().whole()?)
            }
        })
    }
}

fn delta(nanos: i128) -> Option<TimeDelta> {
    TimeDelta::new(
        i64::try_from(nanos.div_euclid(SECOND)).ok()?,
        u32::try_from(nanos.rem_euclid(SECOND)).ok()?,
    )
}

fn later(local: NaiveDateTime, months: i128) -> Option<NaiveDateTime> {
    let date = local.date();
    let month = i128::from(date.year())
        .checked_mul(12)?
        .checked_add(i128::from(date.month0()))?
        .checked_add(months)?;
    let year = i32::try_from(month.div_euclid(12)).ok()?;
    let month = u32::try_from(month.rem_euclid(12)).ok()? + 1;
    let day = date.day().min(last_day(year, month)?);
    Some(NaiveDate::from_ymd_opt(year, month, day)?.and_time(local.time()))
}

/// The last day of a month.
pub(super) fn last_day(year: i32, month: u32) -> Option<u32> {
    let next = if month == 12 {
        NaiveDate::from_ymd_opt(year.checked_add(1)?, 1, 1)
    } else {
        NaiveDate::from_ymd_opt(year, month + 1, 1)
    };
    Some(next?.pred_opt()?.day())
}

/// Digits that a second's fraction needs: none, milliseconds, microseconds or all.
fn digits(nanos: u32) -> u8 {
    match nanos {
        n if n % 1_000_000_000 == 0 => 0,
        n if n % 1_000_000 == 0 => 3,
        n if n % 1_000 == 0 => 6,
        _ => 9,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plus(at: &str, amount: &str, unit: Calendar) -> Option<String> {
        let moved = Temporal::parse(at)
            .unwrap()
            .plus(Decimal::parse(amount).unwrap(), unit)?;
        Some(moved.to_string())
    }

    #[test]
    fn calendar_rules() {
        for (at, amount, unit, expected) in [
            ("2020-01-31", "1", Calendar::Month, "2020-02-29"),
            ("2020-02-29", "1", Calendar::Year, "2021-02-28"),
            ("2020-02-29", "-4", Calendar::Year, "2016-02-29"),
            ("2019-12-31", "1", Calendar::Day, "2020-01-01"),
            ("2019-12-31", "25", Calendar::Hour, "2020-01-01"),
            ("2019-12-31", "23.9", Calendar::Hour, "2019-12-31"),
            ("2014", "24", Calendar::Month, "2016"),
            ("2014", "23", Calendar::Month, "2015"),
            ("2014", "365", Calendar::Day, "2015"),
            ("2014-03", "-3", Calendar::Month, "2013-12"),
            ("2014-03", "30", Calendar::Day, "2014-04"),
            ("2014-03-01", "1.9", Calendar::Week, "2014-03-08"),
            (
                "2014-03-01T23:59:59Z",
                "1.5",
                Calendar::Second,
                "2014-03-02T00:00:00.500Z",
            ),
            (
                "2014-03-01T10+02:00",
                "59",
                Calendar::Minute,
                "2014-03-01T10+02:00",
            ),
            ("23:30", "45", Calendar::Minute, "00:15"),
            ("00:30", "-45", Calendar::Minute, "23:45"),
            ("12:00:00", "1", Calendar::Millisecond, "12:00:00.001"),
        ] {
            assert_eq!(
                plus(at, amount, unit).as_deref(),
                Some(expected),
                "{at} {amount} {unit:?}"
            );
        }
        assert_eq!(plus("9999-12-31", "1", Calendar::Day), None);
        assert_eq!(plus("0001", "-1", Calendar::Year), None);
        assert_eq!(plus("2014", "1e30", Calendar::Year), None);
        assert_eq!(plus("12:00", "1", Calendar::Month), None);
    }
}
