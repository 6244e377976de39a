//! Decimal numbers: exact, with the scale that they were written in; no binary floating point.
//!
//! What [`Decimal`] cannot hold (more than 38 digits) is still compared, by its digits: see [`compare_lexical`].

use std::{cmp::Ordering, fmt, iter};

/// `mantissa × 10^-scale`: `1.50` keeps its zero.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    mantissa: i128,
    scale: u32,
}

/// Digits after the point of a quotient that does not end: more than FHIRPath asks for (8), few enough for any operand.
const QUOTIENT_SCALE: u32 = 18;

impl Decimal {
    /// Reads a JSON or FHIRPath number; `None` where it has more than 38 digits.
    pub fn parse(lexical: &str) -> Option<Self> {
        let number = Lexical::read(lexical);
        let mut mantissa = number.digits().try_fold(0_i128, |sum, digit| {
            sum.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
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

/// A number's parts, as written.
struct Lexical<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: i64,
}

impl<'a> Lexical<'a> {
    fn read(text: &'a str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        // An exponent beyond 64 bits stays beyond every bound.
        let beyond = if exponent.starts_with('-') {
            -(1 << 60)
        } else {
            1 << 60
        };
        let exponent = exponent
            .parse::<i64>()
            .unwrap_or(beyond)
            .clamp(-(1 << 60), 1 << 60);
        Self {
            negative,
            whole,
            fraction,
            exponent,
        }
    }

    /// All digits, from the first that is not zero.
    fn digits(&self) -> impl Iterator<Item = u8> + Clone {
        self.whole
            .bytes()
            .chain(self.fraction.bytes())
            .skip_while(|&b| b == b'0')
    }

    /// Where the point stands: the number is `0.digits × 10^point`. Saturates; of zero without meaning.
    fn point(&self) -> i64 {
        let zeros = |text: &str| text.bytes().take_while(|&b| b == b'0').count();
        let skipped = zeros(self.whole);
        let place = if skipped < self.whole.len() {
            self.whole.len() - skipped
        } else {
            return self
                .exponent
                .saturating_sub(i64::try_from(zeros(self.fraction)).unwrap_or(i64::MAX));
        };
        self.exponent
            .saturating_add(i64::try_from(place).unwrap_or(i64::MAX))
    }

    fn is_zero(&self) -> bool {
        self.digits().next().is_none()
    }
}

/// Compares two JSON numbers of any length by value.
pub fn compare_lexical(a: &str, b: &str) -> Ordering {
    let (a, b) = (Lexical::read(a), Lexical::read(b));
    match (a.is_zero(), b.is_zero()) {
        (true, true) => return Ordering::Equal,
        (true, false) => {
            return if b.negative {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        (false, true) => {
            return if a.negative {
                Ordering::Less
            } else {
                Ordering::Greater
            };
        }
        (false, false) => {}
    }
    if a.negative != b.negative {
        return if a.negative {
            Ordering::Less
        } else {
            Ordering::Greater
        };
    }
    let magnitude = a.point().cmp(&b.point()).then_with(|| {
        let length = a.whole.len() + a.fraction.len() + b.whole.len() + b.fraction.len();
        let padded = |n: &Lexical<'_>| {
            n.digits()
                .chain(iter::repeat(b'0'))
                .take(length)
                .collect::<Vec<_>>()
        };
        padded(&a).cmp(&padded(&b))
    });
    if a.negative {
        magnitude.reverse()
    } else {
        magnitude
    }
}

/// Whether PostgreSQL's `numeric` holds the number: up to 131,072 digits before and 16,383 after the point.
pub fn fits_numeric(lexical: &str) -> bool {
    let number = Lexical::read(lexical);
    let scale = i64::try_from(number.fraction.len())
        .unwrap_or(i64::MAX)
        .saturating_sub(number.exponent);
    // Zero has no place for its point, yet 0e999999 is out of `numeric`'s reach too.
    scale <= 16_383 && number.exponent <= 131_072 && (number.is_zero() || number.point() <= 131_072)
}

/// The number rounded half away from zero to `scale` digits after the point, as PostgreSQL does it; `None` if it has more than
/// `precision` digits then. The number must fit `numeric`.
pub fn round_to(lexical: &str, precision: u16, scale: u16) -> Option<String> {
    let number = Lexical::read(lexical);
    let scale = usize::from(scale);
    let mut digits: Vec<u8> = number.digits().collect();
    if digits.is_empty() {
        return Some(plain(false, &[], scale));
    }
    // Digits kept: those up to `scale` places after the point.
    let keep = number.point() + i64::try_from(scale).ok()?;
    let Ok(keep) = usize::try_from(keep) else {
        return Some(plain(false, &[], scale));
    };
    let up = digits.get(keep).is_some_and(|&d| d >= b'5');
    digits.resize(keep, b'0');
    if up {
        let mut carry = true;
        for digit in digits.iter_mut().rev() {
            if *digit == b'9' {
                *digit = b'0';
            } else {
                *digit += 1;
                carry = false;
                break;
            }
        }
        if carry {
            digits.insert(0, b'1');
        }
    }
    (digits.len() <= usize::from(precision)).then(|| plain(number.negative, &digits, scale))
}

fn plain(negative: bool, digits: &[u8], scale: usize) -> String {
    let text: String = digits.iter().map(|&b| char::from(b)).collect();
    let text = format!("{text:0>width$}", width = scale + 1);
    let (whole, fraction) = text.split_at(text.len() - scale);
    let sign = if negative && digits.iter().any(|&d| d != b'0') {
        "-"
    } else {
        ""
    };
    if scale == 0 {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
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
