//! The earliest and the latest that an imprecise date or time can be (SQL on FHIR, `lowBoundary` and `highBoundary`).

use chrono::{Datelike, NaiveDate, NaiveTime, Timelike};

use super::{Form, Precision, Temporal, arithmetic::last_day, truncated};

/// Digits as FHIRPath counts precision, of dates.
const DATE: [(i64, Precision, u8); 7] = [
    (4, Precision::Year, 0),
    (6, Precision::Month, 0),
    (8, Precision::Day, 0),
    (10, Precision::Hour, 0),
    (12, Precision::Minute, 0),
    (14, Precision::Second, 0),
    (17, Precision::Second, 3),
];

/// The same, of times of day.
const TIME: [(i64, Precision, u8); 4] = [
    (2, Precision::Hour, 0),
    (4, Precision::Minute, 0),
    (6, Precision::Second, 0),
    (9, Precision::Second, 3),
];

impl Temporal {
    /// Digits that were written, as FHIRPath counts them: 4 for a year, 17 for milliseconds; 9 for a time's milliseconds.
    pub fn digits_written(self) -> i64 {
        let table: &[(i64, Precision, u8)] = if self.is_time() { &TIME } else { &DATE };
        let whole = table
            .iter()
            .find(|(_, precision, _)| *precision == self.precision);
        let fraction = match self.digits {
            0 => 0,
            digits => i64::from(digits.max(3)),
        };
        whole.map_or(0, |(digits, ..)| *digits) + fraction
    }

    /// The earliest (or latest) that it can be, to `precision` digits: 8 for a date, 17 for a dateTime, 9 for a time if none are given.
    /// `None` for a precision that the type does not have. A dateTime without offset gets the one that makes it earliest (or latest).
    pub fn boundary(self, high: bool, precision: Option<i64>) -> Option<Self> {
        let (table, default): (&[(i64, Precision, u8)], _) = match self.form {
            Form::Date => (&DATE[..3], 8),
            Form::DateTime => (&DATE, 17),
            Form::Time => (&TIME, 9),
        };
        let wanted = precision.unwrap_or(default);
        let (_, precision, digits) = *table.iter().find(|(d, ..)| *d == wanted)?;
        let filled = if high { self.latest()? } else { self.local };
        let (date, time) = truncated(filled, precision);
        let time = fraction(time, digits)?;
        let offset = if self.is_time() || precision < Precision::Hour {
            None
        } else {
            let unknown = if high { -12 * 60 } else { 14 * 60 };
            Some(self.offset.unwrap_or(unknown))
        };
        Some(Self {
            local: date.and_time(time),
            precision,
            offset,
            digits,
            form: self.form,
        })
    }

    /// Parts that were not written at their highest.
    fn latest(self) -> Option<chrono::NaiveDateTime> {
        let date = self.local.date();
        let date = match self.precision {
            Precision::Year => NaiveDate::from_ymd_opt(date.year(), 12, 31)?,
            Precision::Month => date.with_day(last_day(date.year(), date.month())?)?,
            _ => date,
        };
        let time = self.local.time();
        let millis = |hour, minute| NaiveTime::from_hms_milli_opt(hour, minute, 59, 999);
        let time = match self.precision {
            Precision::Second => {
                // A fraction is written to the millisecond, be it with fewer digits.
                let unknown = if self.digits == 0 { 999_000_000 } else { 0 };
                time.with_nanosecond(time.nanosecond() + unknown)?
            }
            Precision::Minute => millis(time.hour(), time.minute())?,
            Precision::Hour => millis(time.hour(), 59)?,
            _ => millis(23, 59)?,
        };
        Some(date.and_time(time))
    }
}

/// A time with so many digits of the second's fraction.
fn fraction(time: NaiveTime, digits: u8) -> Option<NaiveTime> {
    let unit = 10_u32.pow(9 - u32::from(digits));
    let nanos = time.nanosecond();
    time.with_nanosecond(nanos - nanos % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries() {
        for (at, precision, low, high) in [
            ("1970-06", None, "1970-06-01", "1970-06-30"),
            ("2016-02", None, "2016-02-01", "2016-02-29"),
            ("2014", Some(6), "2014-01", "2014-12"),
            ("2014-05-06", Some(4), "2014", "2014"),
            ("12:34:00", None, "12:34:00.000", "12:34:00.999"),
            ("10:30", None, "10:30:00.000", "10:30:59.999"),
            ("10:30", Some(2), "10", "10"),
            ("10:30:00.5", None, "10:30:00.500", "10:30:00.500"),
            (
                "2010-10-10T10Z",
                None,
                "2010-10-10T10:00:00.000Z",
                "2010-10-10T10:59:59.999Z",
            ),
            (
                "2010-10-10T10:11:12",
                Some(14),
                "2010-10-10T10:11:12+14:00",
                "2010-10-10T10:11:12-12:00",
            ),
        ] {
            let at = Temporal::parse(at).unwrap();
            let text = |high| at.boundary(high, precision).map(|b| b.to_string());
            assert_eq!(text(false).as_deref(), Some(low), "{at}");
            assert_eq!(text(true).as_deref(), Some(high), "{at}");
        }
        let day = Temporal::date_time("2010-10-10").unwrap();
        assert_eq!(
            day.boundary(false, None).unwrap().to_string(),
            "2010-10-10T00:00:00.000+14:00"
        );
        assert_eq!(
            day.boundary(true, None).unwrap().to_string(),
            "2010-10-10T23:59:59.999-12:00"
        );
        for precision in [-1, 0, 5, 10, 17, 32] {
            assert_eq!(
                Temporal::date("2010").unwrap().boundary(false, Some(precision)),
                None
            );
        }
    }

    #[test]
    fn digits() {
        for (text, digits) in [
            ("2014", 4),
            ("2014-01-05T10:30:00.000Z", 17),
            ("10:30", 4),
            ("10:30:00.000", 9),
        ] {
            assert_eq!(Temporal::parse(text).unwrap().digits_written(), digits, "{text}");
        }
    }
}
