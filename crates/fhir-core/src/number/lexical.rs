//! Numbers of any length, by their digits.

use std::{cmp::Ordering, iter};

/// A number's parts, as written.
pub(super) struct Lexical<'a> {
    pub(super) negative: bool,
    pub(super) whole: &'a str,
    pub(super) fraction: &'a str,
    pub(super) exponent: i64,
}

impl<'a> Lexical<'a> {
    pub(super) fn read(text: &'a str) -> Self {
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
    pub(super) fn digits(&self) -> impl Iterator<Item = u8> + Clone {
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

    pub(super) fn is_zero(&self) -> bool {
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

/// Characters of a number that fits `numeric` wherever its point is, if it has no exponent.
const PLAIN: usize = 64;

/// Whether PostgreSQL's `numeric` holds the number: up to 131,072 digits before and 16,383 after the point.
pub fn fits_numeric(lexical: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_digit() | matches!(byte, b'-' | b'.');
    if lexical.len() < PLAIN && lexical.bytes().fold(true, |all, byte| all & is_plain(byte)) {
        return true;
    }
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
