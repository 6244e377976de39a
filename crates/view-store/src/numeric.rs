//! PostgreSQL's binary `numeric`: from FHIR's lexical form and back, every digit and the scale kept.
//!
//! A numeric is a list of base-10,000 digits with the weight of the first, a sign, and the number of decimal places to show (dscale).

use std::fmt::Write as _;

/// Digits before the point that a numeric can hold.
const MAX_BEFORE: i64 = 131_072;
/// Digits after the point that a numeric can hold.
const MAX_AFTER: i64 = 16_383;

const NEGATIVE: u16 = 0x4000;

/// Why a text cannot become a numeric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NumericError {
    #[error("is not a number")]
    NotANumber,
    #[error("is out of the range of numeric")]
    OutOfRange,
    #[error("has too many digits for its column")]
    TooManyDigits,
}

/// A decimal: sign, significant digits (ASCII, no leading zero; empty for zero) and the power of ten of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    exponent: i64,
    scale: i64,
}

impl Decimal {
    fn parse(text: &str) -> Result<Self, NumericError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
            return Err(NumericError::NotANumber);
        }
        let length = i64::try_from(fraction.len()).map_err(|_| NumericError::OutOfRange)?;
        let exponent = exponent - length;
        let digits: Vec<u8> = whole
            .bytes()
            .chain(fraction.bytes())
            .skip_while(|&b| b == b'0')
            .collect();
        Ok(Self {
            negative,
            digits,
            exponent,
            scale: (-exponent).max(0),
        })
    }

    fn check_range(&self) -> Result<(), NumericError> {
        let before = i64::try_from(self.digits.len()).map_err(|_| NumericError::OutOfRange)? + self.exponent;
        if (!self.digits.is_empty() && before > MAX_BEFORE) || self.scale > MAX_AFTER {
            return Err(NumericError::OutOfRange);
        }
        Ok(())
    }

    /// To `scale` places, half away from zero as PostgreSQL does; at most `precision` digits.
    fn fit(&mut self, precision: u16, scale: u16) -> Result<(), NumericError> {
        let scale = i64::from(scale);
        let surplus = -self.exponent - scale;
        if let (true, Ok(surplus)) = (surplus > 0, usize::try_from(surplus)) {
            let kept = self.digits.len().saturating_sub(surplus);
            let round_up = surplus <= self.digits.len() && self.digits[kept] >= b'5';
            self.digits.truncate(kept);
            self.exponent = -scale;
            if round_up {
                self.add_one();
            }
        }
        self.scale = scale;
        let length = i64::try_from(self.digits.len()).map_err(|_| NumericError::OutOfRange)?;
        if !self.digits.is_empty() && length + self.exponent > i64::from(precision) - scale {
            return Err(NumericError::TooManyDigits);
        }
        Ok(())
    }

    /// One more in the last place.
    fn add_one(&mut self) {
        for digit in self.digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
        self.digits.insert(0, b'1');
    }

    fn write(mut self, out: &mut Vec<u8>) -> Result<(), NumericError> {
        self.check_range()?;
        while self.digits.last() == Some(&b'0') {
            self.digits.pop();
            self.exponent += 1;
        }
        let scale = u16::try_from(self.scale).map_err(|_| NumericError::OutOfRange)?;
        if self.digits.is_empty() {
            // PostgreSQL has no negative zero.
            return put(out, &[], 0, false, scale);
        }
        // Groups of four, aligned at the point.
        let pad = self.exponent.rem_euclid(4);
        self.digits.extend(std::iter::repeat_n(
            b'0',
            usize::try_from(pad).unwrap_or_default(),
        ));
        let last_weight = (self.exponent - pad) / 4;
        let groups: Vec<u16> = self
            .digits
            .rchunks(4)
            .rev()
            .map(|group| {
                group
                    .iter()
                    .fold(0, |value, &digit| value * 10 + u16::from(digit - b'0'))
            })
            .collect();
        let weight = last_weight + i64::try_from(groups.len()).map_err(|_| NumericError::OutOfRange)? - 1;
        put(out, &groups, weight, self.negative, scale)
    }
}

fn parse_exponent(text: &str) -> Result<i64, NumericError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumericError::NotANumber);
    }
    match text.parse::<i64>() {
        Ok(exponent) if exponent.abs() < 1_000_000_000 => Ok(exponent),
        _ => Err(NumericError::OutOfRange),
    }
}

fn put(
    out: &mut Vec<u8>,
    groups: &[u16],
    weight: i64,
    negative: bool,
    scale: u16,
) -> Result<(), NumericError> {
    let count = i16::try_from(groups.len()).map_err(|_| NumericError::OutOfRange)?;
    let weight = i16::try_from(weight).map_err(|_| NumericError::OutOfRange)?;
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&(if negative { NEGATIVE } else { 0 }).to_be_bytes());
    out.extend_from_slice(&scale.to_be_bytes());
    for group in groups {
        out.extend_from_slice(&group.to_be_bytes());
    }
    Ok(())
}

/// Appends the binary form of a number given as text; exponents allowed, and expanded as PostgreSQL does.
pub(crate) fn encode(text: &str, out: &mut Vec<u8>) -> Result<(), NumericError> {
    Decimal::parse(text)?.write(out)
}

/// Appends the binary form of a number for a column `numeric(precision, scale)`: rounded to its scale.
pub(crate) fn encode_fitted(
    text: &str,
    precision: u16,
    scale: u16,
    out: &mut Vec<u8>,
) -> Result<(), NumericError> {
    let mut decimal = Decimal::parse(text)?;
    decimal.check_range()?;
    decimal.fit(precision, scale)?;
    decimal.write(out)
}

/// Whether a numeric can hold a number given as text.
pub(crate) fn fits(text: &str) -> bool {
    Decimal::parse(text).is_ok_and(|decimal| decimal.check_range().is_ok())
}

/// The text of a binary numeric, as PostgreSQL shows it. `None` if the bytes are none.
pub(crate) fn decode(bytes: &[u8]) -> Option<String> {
    let (head, groups) = bytes.split_at_checked(8)?;
    let word = |i: usize| u16::from_be_bytes([head[2 * i], head[2 * i + 1]]);
    let (count, weight, sign, scale) = (
        usize::from(word(0)),
        i64::from(word(1).cast_signed()),
        word(2),
        i64::from(word(3)),
    );
    if groups.len() != 2 * count {
        return None;
    }
    match sign {
        0 | NEGATIVE => {}
        0xC000 => return Some("NaN".into()),
        0xD000 => return Some("Infinity".into()),
        0xF000 => return Some("-Infinity".into()),
        _ => return None,
    }
    // The group of a weight; those that are not stored are zero.
    let group = |at: i64| {
        usize::try_from(weight - at)
            .ok()
            .filter(|&i| i < count)
            .map_or(0, |i| u16::from_be_bytes([groups[2 * i], groups[2 * i + 1]]))
    };
    let mut text = String::new();
    if sign == NEGATIVE {
        text.push('-');
    }
    if weight < 0 {
        text.push('0');
    } else {
        let _ = write!(text, "{}", group(weight));
        for at in (0..weight).rev() {
            let _ = write!(text, "{:04}", group(at));
        }
    }
    if scale > 0 {
        text.push('.');
        let point = text.len();
        for at in 1..=(scale + 3) / 4 {
            let _ = write!(text, "{:04}", group(-at));
        }
        text.truncate(point + usize::try_from(scale).ok()?);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(text: &str) -> Result<String, NumericError> {
        let mut bytes = Vec::new();
        encode(text, &mut bytes)?;
        Ok(decode(&bytes).expect("what was encoded"))
    }

    #[test]
    fn every_digit_and_the_scale_are_kept() {
        for text in [
            "0",
            "0.0",
            "0.000000",
            "1",
            "10",
            "100.00",
            "1234.5600",
            "0.00001230",
            "-7.10",
            "99999999999999999999.000000001",
            "12345",
            "10000",
            "10000.0001",
            "0.1234567890123456789",
            "5000000000000000000000000000",
        ] {
            assert_eq!(through(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn exponents_are_expanded_as_postgresql_does() {
        for (text, shown) in [
            ("1.50e2", "150"),
            ("1.5E-3", "0.0015"),
            ("1e4", "10000"),
            ("12.3400e1", "123.400"),
            ("-0.0", "0.0"),
            ("-0e5", "0"),
            ("1e-8", "0.00000001"),
            ("0.05e+2", "5"),
        ] {
            assert_eq!(through(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn the_range_is_that_of_postgresql() {
        assert_eq!(
            through("1e131071").expect("the largest power of ten").len(),
            131_072
        );
        assert_eq!(through("1e131072"), Err(NumericError::OutOfRange));
        assert_eq!(through("1e-16383").expect("the longest scale").len(), 16_385);
        assert_eq!(through("1e-16384"), Err(NumericError::OutOfRange));
        assert_eq!(through("1e99999999999999999999"), Err(NumericError::OutOfRange));
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "a", "1.2.3", "1e", "1e+", "NaN", " 1", ".5", "1_000"] {
            assert_eq!(through(text), Err(NumericError::NotANumber), "{text}");
        }
    }

    #[test]
    fn a_fitted_number_is_rounded_half_away_from_zero() {
        let fitted = |text, precision, scale| {
            let mut bytes = Vec::new();
            encode_fitted(text, precision, scale, &mut bytes)
                .map(|()| decode(&bytes).expect("what was encoded"))
        };
        assert_eq!(fitted("1.005", 10, 2).as_deref(), Ok("1.01"));
        assert_eq!(fitted("-1.005", 10, 2).as_deref(), Ok("-1.01"));
        assert_eq!(fitted("0.004", 10, 2).as_deref(), Ok("0.00"));
        assert_eq!(fitted("0.0004", 10, 2).as_deref(), Ok("0.00"));
        assert_eq!(fitted("0.5", 3, 0).as_deref(), Ok("1"));
        assert_eq!(fitted("7", 3, 2).as_deref(), Ok("7.00"));
        assert_eq!(fitted("9.995", 3, 2), Err(NumericError::TooManyDigits));
        assert_eq!(fitted("1e2", 3, 1), Err(NumericError::TooManyDigits));
        assert_eq!(fitted("0e9", 3, 1).as_deref(), Ok("0.0"));
    }
}
