//! Dates, times and moments with partial precision, and how they compare (FHIRPath N1, section 6.2).

mod arithmetic;
mod boundary;
mod text;

use std::cmp::Ordering;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

/// A FHIR `date`, `dateTime`, `instant` or `time`, as precise as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Temporal {
    /// Local date and time of day; parts that were not written are the lowest.
    local: NaiveDateTime,
    precision: Precision,
    /// Minutes east of UTC.
    offset: Option<i32>,
    /// Digits of the second's fraction, as written (9 at most).
    digits: u8,
    form: Form,
}

/// FHIRPath's types of dates and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Date
    Date,
    /// `DateTime`, however imprecise
    DateTime,
    /// Time: a time of day, without a date
    Time,
}

/// How much of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// `2015`
    Year,
    /// `2015-02`
    Month,
    /// `2015-02-04`
    Day,
    /// To the hour.
    Hour,
    /// To the minute.
    Minute,
    /// Seconds and their fraction are one precision.
    Second,
}

/// Longest form that is read: a fraction of some forty digits.
const MAX_LENGTH: usize = 64;

impl Temporal {
    /// Reads `YYYY[-MM[-DD[Thh[:mm[:ss[.f]]][Z|±hh:mm]]]]`.
    pub fn date(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() > MAX_LENGTH {
            return None;
        }
        let end = match bytes.get(10) {
            Some(b'T') => 10,
            _ => bytes.iter().position(|b| *b == b'T').unwrap_or(bytes.len()),
        };
        let (date, time) = bytes.split_at(end);
        let (precision, year, month, day) = match date.len() {
            4 => (Precision::Year, digits(date)?, 1, 1),
            7 if date[4] == b'-' => (Precision::Month, digits(&date[..4])?, digits(&date[5..])?, 1),
            10 if date[4] == b'-' && date[7] == b'-' => (
                Precision::Day,
                digits(&date[..4])?,
                digits(&date[5..7])?,
                digits(&date[8..])?,
            ),
            _ => return None,
        };
        let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
        let [_, time @ ..] = time else {
            return Some(Self {
                local: date.and_time(NaiveTime::MIN),
                precision,
                offset: None,
                digits: 0,
                form: Form::Date,
            });
        };
        let (time, offset) = split_offset(time)?;
        // `2015-02T` is a dateTime of that precision, with nothing after it.
        if time.is_empty() && offset.is_none() {
            return Some(Self {
                local: date.and_time(NaiveTime::MIN),
                precision,
                offset: None,
                digits: 0,
                form: Form::DateTime,
            });
        }
        if precision != Precision::Day {
            return None;
        }
        let (time, precision, digits) = time_of_day(time)?;
        Some(Self {
            local: date.and_time(time),
            precision,
            offset,
            digits,
            form: Form::DateTime,
        })
    }

    /// Reads `hh[:mm[:ss[.f]]]`.
    pub fn time(text: &str) -> Option<Self> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (time, precision, digits) = time_of_day(text.as_bytes())?;
        Some(Self {
            local: NaiveDate::default().and_time(time),
            precision,
            offset: None,
            digits,
            form: Form::Time,
        })
    }

    /// Reads either, the form that the text has.
    pub fn parse(text: &str) -> Option<Self> {
        if text.as_bytes().get(2) == Some(&b':') {
            Self::time(text)
        } else {
            Self::date(text)
        }
    }

    /// Reads a date or dateTime as a `DateTime`: FHIR writes an imprecise dateTime like a date.
    pub fn date_time(text: &str) -> Option<Self> {
        Self::date(text).map(|read| Self {
            form: Form::DateTime,
            ..read
        })
    }

    /// Its type.
    pub fn form(self) -> Form {
        self.form
    }

    /// Whether it is a time of day.
    pub fn is_time(self) -> bool {
        self.form == Form::Time
    }

    /// The moment, where date, time to the second and offset are known.
    pub fn moment(self) -> Option<DateTime<Utc>> {
        let offset = self.offset?;
        (self.precision == Precision::Second)
            .then_some(self.local)
            .and_then(|local| local.checked_sub_signed(TimeDelta::minutes(offset.into())))
            .map(|utc| utc.and_utc())
    }

    /// Date and time of day as written, where they are known to the second; an offset is dropped.
    pub fn local(self) -> Option<NaiveDateTime> {
        (self.precision == Precision::Second && !self.is_time()).then_some(self.local)
    }

    /// The day, where just that is known.
    pub fn day(self) -> Option<NaiveDate> {
        (self.precision == Precision::Day && !self.is_time()).then_some(self.local.date())
    }

    /// The time of day, where it is known to the second, without a date.
    pub fn time_of_day(self) -> Option<NaiveTime> {
        (self.precision == Precision::Second && self.is_time()).then_some(self.local.time())
    }

    /// Earlier, equal or later; `None` where that depends on what was not written (precision, offset), or a time meets a date.
    pub fn compare(self, other: Self) -> Option<Ordering> {
        if self.is_time() != other.is_time() {
            return None;
        }
        let (a, b) = match (self.offset, other.offset) {
            (Some(a), Some(b)) => (self.utc(a)?, other.utc(b)?),
            _ => (self.local, other.local),
        };
        let precision = self.precision.min(other.precision);
        let order = truncated(a, precision).cmp(&truncated(b, precision));
        if order.is_eq() {
            return (self.precision == other.precision && (self.offset.is_some() == other.offset.is_some()))
                .then_some(order);
        }
        // Two offsets are 26 hours apart at most: what lies closer together could be in either order. Days are compared as they are written.
        let mixed = self.offset.is_some() != other.offset.is_some();
        let apart = a.signed_duration_since(b).abs() > TimeDelta::hours(26);
        (!mixed || apart || precision <= Precision::Day).then_some(order)
    }

    fn utc(self, offset: i32) -> Option<NaiveDateTime> {
        self.local.checked_sub_signed(TimeDelta::minutes(offset.into()))
    }
}

fn truncated(at: NaiveDateTime, precision: Precision) -> (NaiveDate, NaiveTime) {
    use chrono::{Datelike, Timelike};
    let date = at.date();
    let date = match precision {
        Precision::Year => date.with_ordinal(1),
        Precision::Month => date.with_day(1),
        _ => Some(date),
    };
    let time = at.time();
    let time = match precision {
        Precision::Second => Some(time),
        Precision::Minute => NaiveTime::from_hms_opt(time.hour(), time.minute(), 0),
        Precision::Hour => NaiveTime::from_hms_opt(time.hour(), 0, 0),
        _ => Some(NaiveTime::MIN),
    };
    (date.unwrap_or_default(), time.unwrap_or_default())
}

/// All digits, nine at most.
fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u32::from(digit))
    })
}

/// The time of day before it, and the minutes of an offset.
fn split_offset(time: &[u8]) -> Option<(&[u8], Option<i32>)> {
    if let [time @ .., b'Z'] = time {
        return Some((time, Some(0)));
    }
    let Some(at) = time.iter().position(|b| matches!(b, b'+' | b'-')) else {
        return Some((time, None));
    };
    let (time, [sign, hours @ .., b':', m, n]) = time.split_at(at) else {
        return None;
    };
    if hours.len() != 2 {
        return None;
    }
    let within_hour = digits(&[*m, *n])?;
    let minutes = i32::try_from(digits(hours)? * 60 + within_hour).ok()?;
    if within_hour > 59 || minutes > 14 * 60 {
        return None;
    }
    Some((time, Some(if *sign == b'-' { -minutes } else { minutes })))
}

fn time_of_day(text: &[u8]) -> Option<(NaiveTime, Precision, u8)> {
    let (precision, fraction) = match text {
        [_, _] => (Precision::Hour, &[][..]),
        [_, _, b':', _, _] => (Precision::Minute, &[][..]),
        [_, _, b':', _, _, b':', _, _] => (Precision::Second, &[][..]),
        [_, _, b':', _, _, b':', _, _, b'.', fraction @ ..] if !fraction.is_empty() => {
            (Precision::Second, fraction)
        }
        _ => return None,
    };
    let part = |at: usize| text.get(at..at + 2).map_or(Some(0), digits);
    let (hour, minute, second) = (part(0)?, part(3)?, part(6)?);
    // Of a longer fraction the rest is cut, but it has to be one.
    let (kept, cut) = fraction.split_at(fraction.len().min(9));
    if !cut.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let written = u8::try_from(kept.len()).ok()?;
    let nanos = digits(kept)? * 10_u32.pow(9 - u32::from(written));
    // FHIR allows the leap second 60; it is the next second's beginning.
    let (second, nanos) = if second == 60 {
        (59, 1_000_000_000)
    } else {
        (second, nanos)
    };
    Some((
        NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?,
        precision,
        written,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(a: &str, b: &str) -> Option<Ordering> {
        Temporal::parse(a).unwrap().compare(Temporal::parse(b).unwrap())
    }

    #[test]
    fn reads_every_precision_and_nothing_else() {
        for text in [
            "2015",
            "2015-02",
            "2015-02-04",
            "2015-02-04T14",
            "2015-02-04T14:34Z",
            "2015-02-04T14:34:28.123+09:00",
            "14:34:28",
        ] {
            assert!(Temporal::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            "15",
            "2015-2",
            "2015-13",
            "2015-02-30",
            "2015-02T14",
            "2015-02-04T25",
            "2015-02-04T14:34:28+15:00",
            "24:00",
            "12:34:5",
            "2015-02-04T14:34:28.",
            "T",
        ] {
            assert!(Temporal::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn compares_by_precision_and_offset() {
        assert_eq!(compare("2015-02-04", "2015-02-05"), Some(Ordering::Less));
        assert_eq!(compare("2015", "2015-02-05"), None);
        assert_eq!(compare("2014", "2015-02-05"), Some(Ordering::Less));
        assert_eq!(
            compare("2015-02-04T12:00:00+02:00", "2015-02-04T10:00:00Z"),
            Some(Ordering::Equal)
        );
        assert_eq!(
            compare("2015-02-04T23:00:00-02:00", "2015-02-05T00:30:00Z"),
            Some(Ordering::Greater)
        );
        assert_eq!(compare("2015-02-04T12:00:00", "2015-02-04T10:00:00Z"), None);
        assert_eq!(compare("2015-02-04T23:00:00", "2015-02-05T01:00:00+14:00"), None);
        assert_eq!(
            compare("2015-02-04T12:00:00", "2015-02-05T15:00:00Z"),
            Some(Ordering::Less)
        );
        assert_eq!(
            compare("2015-02-04", "2015-02-05T01:00:00+14:00"),
            Some(Ordering::Less)
        );
        assert_eq!(
            compare("2015-02-04T12:00:00.0", "2015-02-04T12:00:00"),
            Some(Ordering::Equal)
        );
        assert_eq!(compare("12:00", "12:30"), Some(Ordering::Less));
        assert_eq!(compare("12:00", "2015-01-01"), None);
    }
}
