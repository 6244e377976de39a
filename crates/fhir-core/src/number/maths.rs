//! Powers, roots and logarithms, in whole numbers of 10⁻⁵⁰: what is told of a result (18 digits after the point) is right.

use num_bigint::{BigInt, Sign};

use super::{Decimal, Toward};

/// Digits after the point that are computed with.
const GUARD: u32 = 50;

/// Digits after the point of a result that does not end.
const TOLD: u32 = 18;

/// Terms of a series at most: each of those below gains more than a bit a term.
const TERMS: u32 = 300;

/// A number as a multiple of 10⁻⁵⁰.
#[derive(Clone)]
struct Fixed(BigInt);

fn unit() -> BigInt {
    BigInt::from(10).pow(GUARD)
}

impl Fixed {
    fn of(value: Decimal) -> Self {
        Self(BigInt::from(value.mantissa) * BigInt::from(10).pow(GUARD - value.scale.min(GUARD)))
    }

    fn whole(value: i128) -> Self {
        Self(BigInt::from(value) * unit())
    }

    /// The decimal, rounded to what is told of it, without zeros at the end; `None` where that has too many digits.
    fn decimal(&self) -> Option<Decimal> {
        (0..=TOLD).rev().find_map(|scale| {
            let below = BigInt::from(10).pow(GUARD - scale);
            let half = &below / 2;
            let rounded = if self.0.sign() == Sign::Minus {
                (&self.0 - half) / below
            } else {
                (&self.0 + half) / below
            };
            let mantissa = i128::try_from(rounded).ok()?;
            Some(Decimal { mantissa, scale }.trimmed())
        })
    }

    fn times(&self, other: &Self) -> Self {
        Self(&self.0 * &other.0 / unit())
    }

    /// `other` is not zero.
    fn over(&self, other: &Self) -> Self {
        Self(&self.0 * unit() / &other.0)
    }

    fn plus(&self, other: &Self) -> Self {
        Self(&self.0 + &other.0)
    }

    fn minus(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    fn is_zero(&self) -> bool {
        self.0.sign() == Sign::NoSign
    }

    /// eˣ by halving x until its series ends soon. x is at most 100 in size, so that the result has at most 44 digits.
    fn exp(&self) -> Self {
        let mut halvings = 0;
        let mut x = self.clone();
        let small = BigInt::from(10).pow(GUARD - 2);
        while x.0.magnitude() > small.magnitude() {
            x.0 /= 2;
            halvings += 1;
        }
        let mut sum = Self(unit());
        let mut term = Self(unit());
        for n in 1..TERMS {
            term = term.times(&x);
            term.0 /= n;
            if term.is_zero() {
                break;
            }
            sum = sum.plus(&term);
        }
        for _ in 0..halvings {
            sum = sum.times(&sum);
        }
        sum
    }

    /// ln x of a positive number: x = m·2ⁿ with m near 1, whose logarithm is a series of (m−1)/(m+1).
    fn ln(&self) -> Self {
        let one = unit();
        let mut twos = 0_i128;
        let mut m = self.0.clone();
        while m > &one * 4 / 3 {
            m /= 2;
            twos += 1;
        }
        while m < &one * 2 / 3 {
            m *= 2;
            twos -= 1;
        }
        let near_one = |m: &Self| {
            let unit = Self(unit());
            let y = m.minus(&unit).over(&m.plus(&unit));
            let square = y.times(&y);
            let (mut power, mut sum) = (y.clone(), y);
            for n in 1..TERMS {
                power = power.times(&square);
                let term = Self(&power.0 / (2 * n + 1));
                if term.is_zero() {
                    break;
                }
                sum = sum.plus(&term);
            }
            Self(sum.0 * 2)
        };
        // ln 2 = ln(4/3) + ln(3/2), both near enough to 1.
        let two = near_one(&Self(&one * 4 / 3)).plus(&near_one(&Self(&one * 3 / 2)));
        near_one(&Self(m)).plus(&Self(two.0 * twos))
    }
}

impl Decimal {
    /// e to this power; `None` where the result is out of range, as in all of the following.
    pub fn exp(self) -> Option<Self> {
        let whole = self.integer(Toward::Zero)?;
        match whole {
            ..-100 => Some(Self::from(0)),
            -100..=100 => Fixed::of(self).exp().decimal(),
            _ => None,
        }
    }

    /// The natural logarithm; `None` of what is not positive.
    pub fn ln(self) -> Option<Self> {
        if self.mantissa <= 0 {
            return None;
        }
        Fixed::of(self).ln().decimal()
    }

    /// The logarithm to a base; `None` of what is not positive, or a base of 1.
    pub fn log(self, base: Self) -> Option<Self> {
        if self.mantissa <= 0 || base.mantissa <= 0 || base == Self::from(1) {
            return None;
        }
        Fixed::of(self).ln().over(&Fixed::of(base).ln()).decimal()
    }

    /// The square root; `None` of what is negative.
    pub fn sqrt(self) -> Option<Self> {
        if self.mantissa < 0 {
            return None;
        }
        Fixed((Fixed::of(self).0 * unit()).sqrt()).decimal()
    }

    /// This number to a power: exact for a whole exponent where the result fits; `None` where it is no real number.
    pub fn power(self, exponent: Self) -> Option<Self> {
        if let Some(whole) = exponent.whole() {
            return self.whole_power(whole);
        }
        if self.mantissa <= 0 {
            return (self.mantissa == 0 && exponent.mantissa > 0).then(|| Self::from(0));
        }
        let logarithm = Fixed::of(self).ln().times(&Fixed::of(exponent));
        if logarithm.0 > Fixed::whole(100).0 {
            return None;
        }
        if logarithm.0 < Fixed::whole(-100).0 {
            return Some(Self::from(0));
        }
        logarithm.exp().decimal()
    }

    fn whole_power(self, exponent: i128) -> Option<Self> {
        if exponent < 0 {
            return Self::from(1).over(self.whole_power(exponent.checked_neg()?)?);
        }
        // Beyond this only 0, 1 and -1 stay in range.
        let mut left = u32::try_from(exponent).ok()?;
        let (mut power, mut result) = (self.trimmed(), Self::from(1));
        loop {
            if left % 2 == 1 {
                result = result.times(power)?;
            }
            left /= 2;
            if left == 0 {
                return Some(result);
            }
            power = power.times(power)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    fn text(value: Option<Decimal>) -> String {
        value.map_or_else(|| "-".into(), |v| v.to_string())
    }

    #[test]
    fn values_of_tables() {
        assert_eq!(text(decimal("0").exp()), "1");
        assert_eq!(text(decimal("1").exp()), "2.718281828459045235");
        assert_eq!(text(decimal("-0.0").exp()), "1");
        assert_eq!(text(decimal("1000").exp()), "-");
        assert_eq!(text(decimal("-1000").exp()), "0");
        assert_eq!(text(decimal("1").ln()), "0");
        assert_eq!(text(decimal("10").ln()), "2.302585092994045684");
        assert_eq!(text(decimal("0.5").ln()), "-0.693147180559945309");
        assert_eq!(text(decimal("0").ln()), "-");
        assert_eq!(text(decimal("16").log(decimal("2"))), "4");
        assert_eq!(text(decimal("100.0").log(decimal("10.0"))), "2");
        assert_eq!(text(decimal("2").log(decimal("1"))), "-");
        assert_eq!(text(decimal("81").sqrt()), "9");
        assert_eq!(text(decimal("2").sqrt()), "1.414213562373095049");
        assert_eq!(text(decimal("-1").sqrt()), "-");
        assert_eq!(text(decimal("2").power(decimal("3"))), "8");
        assert_eq!(text(decimal("2.5").power(decimal("2"))), "6.25");
        assert_eq!(text(decimal("2").power(decimal("-2"))), "0.25");
        assert_eq!(text(decimal("-1").power(decimal("0.5"))), "-");
        assert_eq!(text(decimal("2").power(decimal("0.5"))), "1.414213562373095049");
        assert_eq!(text(decimal("10").power(decimal("100"))), "-");
        assert_eq!(text(decimal("0").power(decimal("0.5"))), "0");
    }
}
