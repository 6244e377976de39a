//! Decimals cut and rounded to a number of digits, and the whole numbers of divisions. All exact.

use super::Decimal;

/// Which way a number is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    /// Toward zero.
    Zero,
    /// To the nearest, a half away from zero.
    Nearest,
    /// To the nearest, a half toward positive infinity (FHIRPath's "traditional round": 0.5 is 1, -0.5 is 0).
    HalfUp,
    /// Toward negative infinity.
    Down,
    /// Toward positive infinity.
    Up,
}

/// Most digits after the point that a boundary can be asked for.
const MAX_BOUNDARY: i64 = 31;

impl Decimal {
    /// Rounded to `scale` digits after the point; with fewer, zeros are added. `None` out of range.
    pub fn rounded(self, scale: u32, toward: Toward) -> Option<Self> {
        if scale >= self.scale {
            return Some(Self {
                mantissa: self.at_scale(scale)?,
                scale,
            });
        }
        let mantissa = match 10_i128.checked_pow(self.scale - scale) {
            Some(unit) => {
                let (quotient, rest) = (self.mantissa / unit, self.mantissa % unit);
                let away = match toward {
                    Toward::Zero => false,
                    Toward::Nearest => rest.abs() >= unit - unit / 2,
                    Toward::HalfUp if rest < 0 => -rest > unit / 2,
                    Toward::HalfUp => rest >= unit - unit / 2,
                    Toward::Down => rest < 0,
                    Toward::Up => rest > 0,
                };
                quotient + if away { self.mantissa.signum() } else { 0 }
            }
            None => 0,
        };
        Some(Self { mantissa, scale })
    }

    /// Without what is after the point.
    #[must_use]
    pub fn truncated(self) -> Self {
        self.rounded(0, Toward::Zero).unwrap_or(self)
    }

    /// The integer, if there is nothing after the point.
    pub fn whole(self) -> Option<i128> {
        let cut = self.rounded(0, Toward::Zero)?;
        (cut == self).then_some(cut.mantissa)
    }

    /// The integer that it is, rounded, if it fits.
    pub fn integer(self, toward: Toward) -> Option<i64> {
        i64::try_from(self.rounded(0, toward)?.mantissa).ok()
    }

    /// The number without its sign.
    pub fn absolute(self) -> Option<Self> {
        if self.mantissa < 0 {
            self.negated()
        } else {
            Some(self)
        }
    }

    /// Digits after the point, as written.
    pub fn scale(self) -> u32 {
        self.scale
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// Without zeros at the end of what is after the point.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        while self.scale > 0 && self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.scale -= 1;
        }
        self
    }

    /// The whole number of times that `other` is in it (`div`); `None` for a division by zero.
    pub fn whole_quotient(self, other: Self) -> Option<i128> {
        let (a, b, _) = self.aligned(other)?;
        a.checked_div(b)
    }

    /// What is left after [`whole_quotient`](Self::whole_quotient) (`mod`).
    pub fn remainder(self, other: Self) -> Option<Self> {
        let (a, b, scale) = self.aligned(other)?;
        Some(Self {
            mantissa: a.checked_rem(b)?,
            scale,
        })
    }

    /// The least (or greatest) number that is written like this when rounded, to `precision` digits after the point (8 if none are
    /// given); `None` for a precision that is not kept (SQL on FHIR, `lowBoundary`).
    pub fn boundary(self, high: bool, precision: Option<i64>) -> Option<Self> {
        let precision = precision.unwrap_or(8);
        if !(0..=MAX_BOUNDARY).contains(&precision) {
            return None;
        }
        let half = Self {
            mantissa: 5,
            scale: self.scale.checked_add(1).filter(|scale| *scale <= 38)?,
        };
        let (edge, toward) = if high {
            (self.plus(half)?, Toward::Up)
        } else {
            (self.minus(half)?, Toward::Down)
        };
        edge.rounded(u32::try_from(precision).ok()?, toward)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn rounding() {
        for (text, scale, zero, nearest, down, up) in [
            ("1.25", 1, "1.2", "1.3", "1.2", "1.3"),
            ("-1.25", 1, "-1.2", "-1.3", "-1.3", "-1.2"),
            ("1.5", 0, "1", "2", "1", "2"),
            ("-0.4", 0, "0", "0", "-1", "0"),
            ("2", 2, "2.00", "2.00", "2.00", "2.00"),
            ("0.49", 0, "0", "0", "0", "1"),
        ] {
            for (toward, expected) in [
                (Toward::Zero, zero),
                (Toward::Nearest, nearest),
                (Toward::Down, down),
                (Toward::Up, up),
            ] {
                assert_eq!(
                    decimal(text).rounded(scale, toward).unwrap().to_string(),
                    expected,
                    "{text} {toward:?}"
                );
            }
        }
    }

    #[test]
    fn a_half_goes_up() {
        for (text, expected) in [
            ("0.5", "1"),
            ("0.49", "0"),
            ("-0.5", "0"),
            ("-0.51", "-1"),
            ("-1.5", "-1"),
            ("-1.6", "-2"),
        ] {
            let rounded = decimal(text).rounded(0, Toward::HalfUp).unwrap();
            assert_eq!(rounded.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn boundaries() {
        for (text, precision, low, high) in [
            ("1.0", None, "0.95000000", "1.05000000"),
            ("1.587", None, "1.58650000", "1.58750000"),
            ("1.587", Some(2), "1.58", "1.59"),
            ("1.587", Some(0), "1", "2"),
            ("-1.587", Some(2), "-1.59", "-1.58"),
            ("1", Some(0), "0", "2"),
            ("120", Some(2), "119.50", "120.50"),
        ] {
            let of = |high| decimal(text).boundary(high, precision).unwrap().to_string();
            assert_eq!((of(false).as_str(), of(true).as_str()), (low, high), "{text}");
        }
        for precision in [-1, 32, 39] {
            assert_eq!(decimal("1").boundary(true, Some(precision)), None);
        }
    }

    #[test]
    fn whole_division() {
        for (a, b, quotient, rest) in [
            ("5", "2", 2, "1"),
            ("-5", "2", -2, "-1"),
            ("5.5", "0.7", 7, "0.6"),
        ] {
            assert_eq!(decimal(a).whole_quotient(decimal(b)), Some(quotient));
            assert_eq!(decimal(a).remainder(decimal(b)).unwrap().to_string(), rest);
        }
        assert_eq!(decimal("1").whole_quotient(decimal("0.0")), None);
        assert_eq!(decimal("1").remainder(decimal("0")), None);
    }
}
