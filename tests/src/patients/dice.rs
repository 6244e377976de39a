//! Chance that is the same on every machine and with every release of every library: SplitMix64.

use chrono::{Duration, NaiveDate};
use serde_json::{Number, Value};

/// A source of chance.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another source, of its own for each `index`.
    pub(crate) fn split(&self, index: u64) -> Self {
        let mut mixed = Self::new(self.state ^ index.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        mixed.next();
        Self::new(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high - low).unwrap_or(0) + 1;
        low + i64::try_from(self.next() % width).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, chance: i64) -> bool {
        self.between(1, 100) <= chance
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let last = i64::try_from(items.len()).unwrap_or(1) - 1;
        &items[usize::try_from(self.between(0, last)).unwrap_or(0)]
    }

    /// An id in the form of a UUID.
    pub(crate) fn id(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xFFFF,
            high & 0x0FFF,
            0x8000 | ((low >> 48) & 0x3FFF),
            low & 0xFFFF_FFFF_FFFF
        )
    }

    /// A decimal of `digits` digits after the point, from `low` to `high` in units of the last digit; trailing zeros stay.
    pub(crate) fn decimal(&mut self, low: i64, high: i64, digits: u32) -> Value {
        decimal(self.between(low, high), digits)
    }

    /// A day between two years, both included.
    pub(crate) fn day(&mut self, first_year: i64, last_year: i64) -> NaiveDate {
        let start = NaiveDate::from_yo_opt(i32::try_from(first_year).unwrap_or(2000), 1).unwrap_or_default();
        start + Duration::days(self.between(0, (last_year - first_year + 1) * 365 - 1))
    }
}

/// A number with exactly `digits` digits after the point.
pub(crate) fn decimal(units: i64, digits: u32) -> Value {
    let width = usize::try_from(digits).unwrap_or(0);
    let scale = 10_i64.pow(digits);
    let sign = if units < 0 { "-" } else { "" };
    let units = units.abs();
    let text = if digits == 0 {
        format!("{sign}{units}")
    } else {
        format!("{sign}{}.{:0width$}", units / scale, units % scale)
    };
    text.parse::<Number>().map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_zeros() {
        assert_eq!(decimal(710, 2).to_string(), "7.10");
        assert_eq!(decimal(-5, 3).to_string(), "-0.005");
        assert_eq!(decimal(40, 0).to_string(), "40");
    }
}
