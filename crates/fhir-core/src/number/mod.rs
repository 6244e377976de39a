//! Decimal numbers: exact, with the scale that they were written in; no binary floating point.
//!
//! What [`Decimal`] cannot hold (more than 38 digits) is still compared, by its digits: see [`compare_lexical`].

mod integer;
mod lexical;
mod maths;
mod rounding;

use std::{cmp::Ordering, fmt};

pub use integer::Integer;
use lexical::Lexical;
pub use lexical::{compare_lexical, fits_numeric, round_to};
pub use rounding::Toward;

/// `mantissa × 10^-scale`: `1.50` keeps its zero.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    mantissa: i128,
    scale: u32,
}

/// Longest form of a number that is computed with: one of more characters has more zeros than anybody writes.
const MAX_LEXICAL: usize = 1024;

/// Digits after the point of a quotient that does not end: more than FHIRPath asks for (8), few enough for any operand.
const QUOTIENT_SCALE: u32 = 18;

impl Decimal {
    /// Reads a JSON or FHIRPath number; `None` where it has more than 38 digits, zeros behind its point included, or is
    /// longer than a number is written. Of another text than a number it is `None`, or any number.
    pub fn parse(lexical: &str) -> Option<Self> {
        if lexical.len() > MAX_LEXICAL {
            return None;
        }
        let number = Lexical::read(lexical);
        let mut mantissa = number.digits().try_fold(0_i128, |sum, digit| {
            sum.checked_mul(10)?
                .checked_add(i128::from(digit.checked_sub(b'0')?))
        })?;
        let scale = i64::try_from(number.fraction.len()).ok()? - number.exponent;
        if number.negative {
            mantissa = -mantissa;
        }
        if let Ok(scale) = u32::try_from(scale) {
            return (scale <= 38).then_some(Self { mantissa, scale });
        }
        let factor = 10_i128.checked_pow(u32::try_from(-scale).ok()?)?;
        Some(Self {
            mantissa: mantissa.checked_mul(factor)?,
            scale: 0,
        })
    }

    /// Reads `[+-]digits[.digits]`, and nothing else: what a conversion takes. `None` as [`parse`](Self::parse) has it, too.
    pub fn read(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        (digits(whole) && digits(fraction)).then(|| Self::parse(text.trim_start_matches('+')))?
    }

    /// `~`: equal when rounded to the digits of the less precise one, zeros at the end not counted.
    pub fn equivalent(self, other: Self) -> bool {
        let scale = self.trimmed().scale.min(other.trimmed().scale);
        self.rounded(scale, Toward::Nearest) == other.rounded(scale, Toward::Nearest)
    }

    /// Both with the greater of the two scales.
    fn aligned(self, other: Self) -> Option<(i128, i128, u32)> {
        let scale = self.scale.max(other.scale);
        Some((self.at_scale(scale)?, other.at_scale(scale)?, scale))
    }

    fn at_scale(self, scale: u32) -> Option<i128> {
        self.mantissa
            .checked_mul(10_i128.checked_pow(scale - self.scale)?)
    }

    /// Sum; `None` where it is out of range, like all of the following.
    pub fn plus(self, other: Self) -> Option<Self> {
        let (a, b, scale) = self.aligned(other)?;
        Some(Self {
            mantissa: a.checked_add(b)?,
            scale,
        })
    }

    /// Difference.
    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.negated()?)
    }

    /// The number with the other sign.
    pub fn negated(self) -> Option<Self> {
        Some(Self {
            mantissa: self.mantissa.checked_neg()?,
            scale: self.scale,
        })
    }

    /// Product.
    pub fn times(self, other: Self) -> Option<Self> {
        let product = Self {
            mantissa: self.mantissa.checked_mul(other.mantissa)?,
            scale: self.scale + other.scale,
        };
        (product.scale <= 38).then_some(product)
    }

    /// Quotient, rounded half away from zero at 18 digits after the point, without trailing zeros; `None` also for a division by zero.
    pub fn over(self, other: Self) -> Option<Self> {
        if other.mantissa == 0 {
            return None;
        }
        // Digits after the point are given up one by one where they do not fit.
        (0..=QUOTIENT_SCALE)
            .rev()
            .find_map(|scale| self.div_at(other, scale))
    }

    fn div_at(self, other: Self, scale: u32) -> Option<Self> {
        // self.m / 10^self.s / (other.m / 10^other.s) * 10^scale
        let up = scale + other.scale;
        let (numerator, denominator) = if up >= self.scale {
            (
                self.mantissa.checked_mul(10_i128.checked_pow(up - self.scale)?)?,
                other.mantissa,
            )
        } else {
            (
                self.mantissa,
                other
                    .mantissa
                    .checked_mul(10_i128.checked_pow(self.scale - up)?)?,
            )
        };
        let (quotient, rest) = (
            numerator.checked_div(denominator)?,
            numerator.checked_rem(denominator)?,
        );
        let half_up = rest.unsigned_abs() >= denominator.unsigned_abs() - denominator.unsigned_abs() / 2;
        let away = if (numerator < 0) == (denominator < 0) {
            1
        } else {
            -1
        };
        let mut mantissa = if rest != 0 && half_up {
            quotient.checked_add(away)?
        } else {
            quotient
        };
        let mut scale = scale;
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        Some(Self { mantissa, scale })
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self {
            mantissa: value.into(),
            scale: 0,
        }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match self.aligned(*other) {
            Some((a, b, _)) => a.cmp(&b),
            None => compare_lexical(&self.to_string(), &other.to_string()),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let scale = self.scale as usize;
        let digits = format!("{:0>width$}", self.mantissa.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        write!(f, "{sign}{whole}")?;
        if scale > 0 {
            write!(f, ".{fraction}")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn keeps_scale_and_digits() {
        for text in ["1.50", "-0.001", "0", "100", "12345678901234567890.123456789"] {
            assert_eq!(decimal(text).to_string(), text);
        }
        assert_eq!(decimal("1.5e3").to_string(), "1500");
        assert_eq!(decimal("15e-3").to_string(), "0.015");
        assert!(Decimal::parse(&"9".repeat(60)).is_none());
        assert!(Decimal::parse("1e400").is_none());
    }

    #[test]
    fn arithmetic_is_exact() {
        assert_eq!(decimal("0.1").plus(decimal("0.2")).unwrap().to_string(), "0.3");
        assert_eq!(decimal("1.0").minus(decimal("0.25")).unwrap().to_string(), "0.75");
        assert_eq!(decimal("1.5").times(decimal("-2")).unwrap().to_string(), "-3.0");
        assert_eq!(decimal("3").over(decimal("2")).unwrap().to_string(), "1.5");
        assert_eq!(
            decimal("-2").over(decimal("3")).unwrap().to_string(),
            "-0.666666666666666667"
        );
        assert_eq!(decimal("1").over(decimal("0")), None);
        assert_eq!(
            decimal("1e37").over(decimal("0.1")).unwrap().to_string(),
            format!("1{}", "0".repeat(38))
        );
    }

    #[test]
    fn compares_by_value() {
        for (a, b, order) in [
            ("1", "1.00", Ordering::Equal),
            ("10e-1", "1", Ordering::Equal),
            ("-0", "0.0", Ordering::Equal),
            ("0.09", "0.1", Ordering::Less),
            ("-2", "-1", Ordering::Less),
            ("1e400", "1e399", Ordering::Greater),
            ("1e99999999999999999999", "1e400", Ordering::Greater),
            ("1e-99999999999999999999", "1e-400", Ordering::Less),
            ("123.4", "123.40001", Ordering::Less),
        ] {
            assert_eq!(compare_lexical(a, b), order, "{a} {b}");
            assert_eq!(compare_lexical(b, a), order.reverse(), "{b} {a}");
        }
    }

    #[test]
    fn rounds_as_numeric_does() {
        assert_eq!(round_to("1.235", 10, 2).unwrap(), "1.24");
        assert_eq!(round_to("-1.5", 10, 0).unwrap(), "-2");
        assert_eq!(round_to("0.004", 10, 2).unwrap(), "0.00");
        assert_eq!(round_to("12e2", 10, 2).unwrap(), "1200.00");
        assert_eq!(round_to("-0.0004", 10, 2).unwrap(), "0.00");
        assert_eq!(round_to("0.0000006", 10, 2).unwrap(), "0.00");
        assert_eq!(round_to("99.995", 4, 2), None);
        assert_eq!(round_to("99.994", 4, 2).unwrap(), "99.99");
        assert!(fits_numeric("1e131000"));
        assert!(!fits_numeric("1e400000"));
        assert!(!fits_numeric("0e999999999"));
        assert!(!fits_numeric("1e-20000"));
    }
}
