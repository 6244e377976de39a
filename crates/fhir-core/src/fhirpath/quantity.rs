//! Numbers with units: calendar durations and UCUM units, and how they compare (FHIRPath N1, sections 4.1.5 and 6).

use std::{cmp::Ordering, fmt};

use super::ucum;
use crate::number::Decimal;

/// Longest unit, in bytes, of a quantity: each copy of the quantity is one of the unit too.
pub(crate) const MAX_UNIT: usize = 256;

/// A number with its unit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantity {
    /// The number.
    pub value: Decimal,
    /// The unit.
    pub unit: Unit,
}

/// A unit as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unit {
    /// `4 days`
    Calendar(Calendar),
    /// `4 'd'`
    Ucum(String),
    /// The unit of a FHIR Quantity: of a time it can be either, by what it meets.
    Fhir(String),
}

/// Units of calendar time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calendar {
    /// `year`, `years`
    Year,
    /// `month`, `months`
    Month,
    /// `week`, `weeks`
    Week,
    /// `day`, `days`
    Day,
    /// `hour`, `hours`
    Hour,
    /// `minute`, `minutes`
    Minute,
    /// `second`, `seconds`
    Second,
    /// `millisecond`, `milliseconds`
    Millisecond,
}

/// Each unit: singular word, UCUM's code of the duration nearest to it, milliseconds.
const CALENDAR: [(Calendar, &str, &str, i64); 8] = [
    (Calendar::Year, "year", "a", 365 * 86_400_000),
    (Calendar::Month, "month", "mo", 30 * 86_400_000),
    (Calendar::Week, "week", "wk", 7 * 86_400_000),
    (Calendar::Day, "day", "d", 86_400_000),
    (Calendar::Hour, "hour", "h", 3_600_000),
    (Calendar::Minute, "minute", "min", 60_000),
    (Calendar::Second, "second", "s", 1_000),
    (Calendar::Millisecond, "millisecond", "ms", 1),
];

impl Calendar {
    /// The unit that a word names, in singular or plural.
    pub fn of_word(word: &str) -> Option<Self> {
        let singular = word.strip_suffix('s').unwrap_or(word);
        CALENDAR
            .iter()
            .find(|(_, name, ..)| *name == singular)
            .map(|(unit, ..)| *unit)
    }

    fn of_ucum(code: &str) -> Option<Self> {
        CALENDAR
            .iter()
            .find(|(_, _, ucum, _)| *ucum == code)
            .map(|(unit, ..)| *unit)
    }

    fn row(self) -> (&'static str, &'static str, i64) {
        CALENDAR
            .iter()
            .find(|(unit, ..)| *unit == self)
            .map_or(("", "", 1), |(_, word, ucum, millis)| (word, ucum, *millis))
    }
}

impl Unit {
    /// UCUM's code, where it has one of just this meaning: calendar seconds are UCUM's, calendar months are not.
    fn ucum(&self) -> Option<&str> {
        match self {
            Self::Ucum(code) | Self::Fhir(code) => Some(code),
            Self::Calendar(unit @ (Calendar::Second | Calendar::Millisecond)) => Some(unit.row().1),
            Self::Calendar(_) => None,
        }
    }

    /// The calendar unit that a date can be moved by, and that compares with others. A definite duration is none (FHIRPath N1: `1 year` and
    /// `1 'a'` do not compare), but seconds are.
    pub(crate) fn calendar(&self) -> Option<Calendar> {
        match self {
            Self::Calendar(unit) => Some(*unit),
            Self::Fhir(code) => Calendar::of_ucum(code),
            Self::Ucum(code) => Calendar::of_ucum(code).filter(|unit| *unit >= Calendar::Second),
        }
    }

    /// How much one of this unit and one of the other are of a third one; `None` where they do not go together.
    fn factors(&self, other: &Self) -> Option<(Decimal, Decimal)> {
        if self == other || self.ucum().is_some_and(|code| other.ucum() == Some(code)) {
            return Some((Decimal::from(1), Decimal::from(1)));
        }
        if let (Some(a), Some(b)) = (self.ucum(), other.ucum()) {
            return ucum::common(a, b);
        }
        let (a, b) = (self.calendar()?, other.calendar()?);
        Some((Decimal::from(a.row().2), Decimal::from(b.row().2)))
    }

    /// As it is written: a word of calendar time, or a code.
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Calendar(unit) => unit.row().0.to_owned(),
            Self::Ucum(code) | Self::Fhir(code) => code.clone(),
        }
    }

    /// UCUM's code; of calendar time that of the definite duration nearest to it.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Calendar(unit) => unit.row().1,
            Self::Ucum(code) | Self::Fhir(code) => code,
        }
    }
}

impl Quantity {
    /// Without a unit.
    pub(crate) fn plain(value: Decimal) -> Self {
        Self {
            value,
            unit: Unit::Ucum("1".into()),
        }
    }

    /// Reads `4`, `4 days`, `4 'mg'` (FHIRPath N1, `toQuantity`); a unit longer than [`MAX_UNIT`] is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let value = Decimal::read(number)?;
        let spaced = unit.starts_with(char::is_whitespace);
        let unit = unit.trim();
        let unit = match unit.strip_prefix('\'').and_then(|u| u.strip_suffix('\'')) {
            _ if unit.is_empty() => Unit::Ucum("1".into()),
            Some(code) => (!code.is_empty() && code.len() <= MAX_UNIT && !code.contains('\''))
                .then(|| Unit::Ucum(code.into()))?,
            None => Unit::Calendar(spaced.then(|| Calendar::of_word(unit))??),
        };
        Some(Self { value, unit })
    }

    /// Earlier, equal or later in size; `None` where the units do not compare.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        if let (Some(a), Some(b)) = (self.unit.ucum(), other.unit.ucum()) {
            return compare_ucum(self.value, a, other.value, b);
        }
        let (a, b) = (self.unit.calendar()?, other.unit.calendar()?);
        let months = |unit| match unit {
            Calendar::Year => Some(12),
            Calendar::Month => Some(1),
            _ => None,
        };
        let (a_factor, b_factor) = match (months(a), months(b)) {
            (Some(a), Some(b)) => (a, b),
            _ => (a.row().2, b.row().2),
        };
        Some(
            self.value
                .times(Decimal::from(a_factor))?
                .cmp(&other.value.times(Decimal::from(b_factor))?),
        )
    }

    /// `~`: calendar durations are UCUM's, and numbers are compared to the digits of the less precise one.
    pub(crate) fn equivalent(&self, other: &Self) -> bool {
        let (a, b) = (self.unit.code(), other.unit.code());
        if a == b {
            return self.value.equivalent(other.value);
        }
        let factors = match (&self.unit, &other.unit) {
            (Unit::Calendar(a), Unit::Calendar(b)) => {
                Some((Decimal::from(a.row().2), Decimal::from(b.row().2)))
            }
            _ => ucum::common(a, b),
        };
        let Some((a_factor, b_factor)) = factors else {
            return false;
        };
        match (self.value.times(a_factor), other.value.times(b_factor)) {
            (Some(a), Some(b)) => a.equivalent(b),
            _ => false,
        }
    }

    /// Sum, in the more granular of the units (FHIRPath N1, 6.6.3); `None` where they do not go together, or out of range.
    pub(crate) fn plus(&self, other: &Self) -> Option<Self> {
        let (own, others) = self.unit.factors(&other.unit)?;
        let (value, unit) = if own <= others {
            let other = converted(other.value, others, own)?;
            (self.value.plus(other)?, &self.unit)
        } else {
            let own = converted(self.value, own, others)?;
            (own.plus(other.value)?, &other.unit)
        };
        Some(Self {
            value,
            unit: unit.clone(),
        })
    }

    /// With the other sign.
    pub(crate) fn negated(&self) -> Option<Self> {
        Some(Self {
            value: self.value.negated()?,
            unit: self.unit.clone(),
        })
    }

    /// Product: of units as well, where both have one; `None` where one is composed already, whose product would be another unit than it reads.
    pub(crate) fn times(&self, other: &Self) -> Option<Self> {
        let unit = match (self.unit.code(), other.unit.code()) {
            (_, "1") => self.unit.clone(),
            ("1", _) => other.unit.clone(),
            (a, b) if is_composed(a) || is_composed(b) => return None,
            (a, b) if a == b => Unit::Ucum(format!("{a}2")),
            (a, b) => Unit::Ucum(format!("{a}.{b}")),
        };
        Some(Self {
            value: self.value.times(other.value)?,
            unit,
        })
    }

    /// Quotient: of units as well. Comparable ones leave none.
    pub(crate) fn over(&self, other: &Self) -> Option<Self> {
        let (a, b) = (self.unit.code(), other.unit.code());
        if b == "1" {
            return Some(Self {
                value: self.value.over(other.value)?,
                unit: self.unit.clone(),
            });
        }
        if let Some((own, others)) = ucum::common(a, b) {
            let value = self.value.times(own)?.over(other.value.times(others)?)?;
            return Some(Self::plain(value));
        }
        if is_composed(a) || is_composed(b) {
            return None;
        }
        Some(Self {
            value: self.value.over(other.value)?,
            unit: Unit::Ucum(format!("{a}/{b}")),
        })
    }

    /// In another unit, where it converts to it.
    pub(crate) fn to(&self, unit: &str) -> Option<Self> {
        let unit = match Calendar::of_word(unit) {
            Some(unit) => Unit::Calendar(unit),
            None => Unit::Ucum(unit.to_owned()),
        };
        let (own, others) = self.unit.factors(&unit)?;
        Some(Self {
            value: converted(self.value, own, others)?,
            unit,
        })
    }
}

/// Whether a unit is made of others: `g/L`, `m2`.
fn is_composed(code: &str) -> bool {
    code.contains(|c: char| matches!(c, '/' | '.' | '*' | '^') || c.is_ascii_digit())
}

/// A number of units of one size as one of units of another.
fn converted(value: Decimal, from: Decimal, to: Decimal) -> Option<Decimal> {
    if from == to {
        return Some(value);
    }
    value.times(from)?.over(to)
}

fn compare_ucum(a: Decimal, a_unit: &str, b: Decimal, b_unit: &str) -> Option<Ordering> {
    if a_unit == b_unit {
        return Some(a.cmp(&b));
    }
    let (a_factor, b_factor) = ucum::common(a_unit, b_unit)?;
    Some(a.times(a_factor)?.cmp(&b.times(b_factor)?))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Unit::Calendar(unit) => {
                let plural = if self.value == Decimal::from(1) { "" } else { "s" };
                write!(f, "{} {}{plural}", self.value, unit.row().0)
            }
            Unit::Ucum(code) | Unit::Fhir(code) => write!(f, "{} '{code}'", self.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(text: &str) -> Quantity {
        Quantity::parse(text).unwrap()
    }

    #[test]
    fn reads_and_writes() {
        for (text, written) in [
            ("4 days", "4 days"),
            ("1 days", "1 day"),
            ("1.50 'mg'", "1.50 'mg'"),
            ("-3", "-3 '1'"),
            ("+3'mg'", "3 'mg'"),
        ] {
            assert_eq!(quantity(text).to_string(), written);
        }
        for text in [
            "", "days", "4days", "4 dayz", "4 'mg", "4 mg", "4 ''", "1.2.3", "1 'm'g'",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn compares_what_compares() {
        for (a, b, order) in [
            ("1 'g'", "1000 'mg'", Some(Ordering::Equal)),
            ("1 'kg'", "999 'g'", Some(Ordering::Greater)),
            ("1 's'", "1 second", Some(Ordering::Equal)),
            ("1000 'ms'", "1 second", Some(Ordering::Equal)),
            ("7 days", "1 week", Some(Ordering::Equal)),
            ("1 year", "12 months", Some(Ordering::Equal)),
            ("1 year", "1 'a'", None),
            ("1 day", "24 'h'", None),
            ("1 'mg'", "1 'mL'", None),
            ("1 'xyz'", "1 'xyz'", Some(Ordering::Equal)),
            ("1 'xyz'", "1 'zyx'", None),
            ("100 'mg/dL'", "1 'g/L'", Some(Ordering::Equal)),
        ] {
            assert_eq!(quantity(a).compare(&quantity(b)), order, "{a} {b}");
        }
        assert!(quantity("1 year").equivalent(&quantity("1 'a'")));
        assert!(quantity("1 month").equivalent(&quantity("30 days")));
        assert!(quantity("1.0 'g'").equivalent(&quantity("1000 'mg'")));
        assert!(!quantity("1 'g'").equivalent(&quantity("1 'm'")));
    }

    #[test]
    fn arithmetic() {
        let text = |q: Option<Quantity>| q.map(|q| q.to_string());
        assert_eq!(
            text(quantity("1 'g'").plus(&quantity("500 'mg'"))).as_deref(),
            Some("1500 'mg'")
        );
        assert_eq!(
            text(quantity("1 minute").plus(&quantity("2 hours"))).as_deref(),
            Some("121 minutes")
        );
        assert_eq!(text(quantity("1 'g'").plus(&quantity("1 'm'"))), None);
        assert_eq!(
            text(quantity("2 'cm'").times(&quantity("3 'cm'"))).as_deref(),
            Some("6 'cm2'")
        );
        assert_eq!(
            text(quantity("6 'g'").over(&quantity("2 'L'"))).as_deref(),
            Some("3 'g/L'")
        );
        assert_eq!(
            text(quantity("6 'g'").over(&quantity("2 'kg'"))).as_deref(),
            Some("0.003 '1'")
        );
        assert_eq!(text(quantity("2 'h'").to("min")).as_deref(), Some("120 'min'"));
    }

    /// `g/L.L` would read as another unit than the product has.
    #[test]
    fn composed_units_have_no_product() {
        for (a, b, times, over) in [
            ("2 'g/L'", "3 'L'", None, None),
            ("2 'g'", "3 'L.m'", None, None),
            ("2 'm2'", "3 's'", None, None),
            ("2 'g/L'", "4 'g/L'", None, Some("0.5 '1'")),
            ("2 'g/L'", "4 'mg/dL'", None, Some("50 '1'")),
            ("2 'g/L'", "4", Some("8 'g/L'"), Some("0.5 'g/L'")),
            ("2", "4 'g/L'", Some("8 'g/L'"), None),
            ("2 'cm'", "4 'm'", Some("8 'cm.m'"), Some("0.005 '1'")),
            ("2 'g'", "4 'g'", Some("8 'g2'"), Some("0.5 '1'")),
        ] {
            let (x, y) = (quantity(a), quantity(b));
            let text = |q: Option<Quantity>| q.map(|q| q.to_string());
            assert_eq!(text(x.times(&y)).as_deref(), times, "{a} * {b}");
            assert_eq!(text(x.over(&y)).as_deref(), over, "{a} / {b}");
        }
    }
}
