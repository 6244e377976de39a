//! UCUM units as far as laboratories and clocks use them: enough to tell that `g/L` and `mg/dL` are the same. Others compare by their code.

use crate::number::Decimal;

/// Exponents of what is not made of anything else here: gram, metre, second, mole, kelvin, international unit.
type Dimensions = [i8; 6];

const NONE: Dimensions = [0; 6];

/// A unit with its code: whether it takes prefixes, its size as a decimal, its dimensions.
const ATOMS: [(&str, bool, &str, Dimensions); 29] = [
    ("g", true, "1", [1, 0, 0, 0, 0, 0]),
    ("m", true, "1", [0, 1, 0, 0, 0, 0]),
    ("s", true, "1", [0, 0, 1, 0, 0, 0]),
    ("mol", true, "1", [0, 0, 0, 1, 0, 0]),
    ("eq", true, "1", [0, 0, 0, 1, 0, 0]),
    ("osm", true, "1", [0, 0, 0, 1, 0, 0]),
    ("K", true, "1", [0, 0, 0, 0, 1, 0]),
    ("[iU]", true, "1", [0, 0, 0, 0, 0, 1]),
    ("[IU]", true, "1", [0, 0, 0, 0, 0, 1]),
    ("L", true, "0.001", [0, 3, 0, 0, 0, 0]),
    ("l", true, "0.001", [0, 3, 0, 0, 0, 0]),
    ("t", true, "1000000", [1, 0, 0, 0, 0, 0]),
    ("min", false, "60", [0, 0, 1, 0, 0, 0]),
    ("h", false, "3600", [0, 0, 1, 0, 0, 0]),
    ("d", false, "86400", [0, 0, 1, 0, 0, 0]),
    ("wk", false, "604800", [0, 0, 1, 0, 0, 0]),
    ("mo", false, "2629800", [0, 0, 1, 0, 0, 0]),
    ("a", false, "31557600", [0, 0, 1, 0, 0, 0]),
    ("Hz", true, "1", [0, 0, -1, 0, 0, 0]),
    ("N", true, "1000", [1, 1, -2, 0, 0, 0]),
    ("Pa", true, "1000", [1, -1, -2, 0, 0, 0]),
    ("bar", true, "100000000", [1, -1, -2, 0, 0, 0]),
    ("m[Hg]", true, "133322000", [1, -1, -2, 0, 0, 0]),
    ("J", true, "1000", [1, 2, -2, 0, 0, 0]),
    ("cal", true, "4184", [1, 2, -2, 0, 0, 0]),
    ("[in_i]", false, "0.0254", [0, 1, 0, 0, 0, 0]),
    ("[ft_i]", false, "0.3048", [0, 1, 0, 0, 0, 0]),
    ("[lb_av]", false, "453.59237", [1, 0, 0, 0, 0, 0]),
    ("[oz_av]", false, "28.349523125", [1, 0, 0, 0, 0, 0]),
];

const PREFIXES: [(&str, i32); 13] = [
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("h", 2),
    ("da", 1),
    ("d", -1),
    ("c", -2),
    ("m", -3),
    ("u", -6),
    ("n", -9),
    ("p", -12),
    ("f", -15),
];

/// A unit's size, as a fraction, and its dimensions.
struct Size {
    over: Decimal,
    under: Decimal,
    dimensions: Dimensions,
}

/// What numbers in these units are multiplied by to be comparable; `None` if they measure different things, or one is not known.
pub(super) fn common(a: &str, b: &str) -> Option<(Decimal, Decimal)> {
    if a == b {
        return Some((Decimal::from(1), Decimal::from(1)));
    }
    let (a, b) = (size(a)?, size(b)?);
    (a.dimensions == b.dimensions).then_some(())?;
    Some((a.over.times(b.under)?, b.over.times(a.under)?))
}

/// Longest code that is taken apart.
const MAX_CODE: usize = 64;

fn size(code: &str) -> Option<Size> {
    if code.is_empty() || code.len() > MAX_CODE {
        return None;
    }
    let mut size = Size {
        over: Decimal::from(1),
        under: Decimal::from(1),
        dimensions: NONE,
    };
    let mut rest = code;
    let mut below = false;
    if let Some(after) = rest.strip_prefix('/') {
        (rest, below) = (after, true);
    }
    loop {
        // A code's brackets hold no operators that would end it, but in annotations, which are no part of the unit.
        let end = rest.find(['.', '/']).unwrap_or(rest.len());
        size.component(&rest[..end], below)?;
        let Some(operator) = rest[end..].chars().next() else {
            return Some(size);
        };
        below = operator == '/';
        rest = &rest[end + 1..];
    }
}

impl Size {
    fn component(&mut self, text: &str, below: bool) -> Option<()> {
        let text = match text.split_once('{') {
            Some((unit, annotation)) if annotation.ends_with('}') => unit,
            Some(_) => return None,
            None => text,
        };
        let (value, dimensions, exponent) = factor(text)?;
        if exponent.unsigned_abs() > 30 {
            return None;
        }
        let times = if below { -exponent } else { exponent };
        for _ in 0..times.unsigned_abs() {
            if times > 0 {
                self.over = self.over.times(value)?;
            } else {
                self.under = self.under.times(value)?;
            }
        }
        for (sum, dimension) in self.dimensions.iter_mut().zip(dimensions) {
            *sum = sum.checked_add(dimension.checked_mul(times)?)?;
        }
        Some(())
    }
}

/// A component without its annotation: what it measures, and to which power.
fn factor(text: &str) -> Option<(Decimal, Dimensions, i8)> {
    if text.is_empty() {
        return Some((Decimal::from(1), NONE, 1));
    }
    if text == "%" {
        return Some((Decimal::parse("0.01")?, NONE, 1));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Some((Decimal::parse(text)?, NONE, 1));
    }
    if let Some(exponent) = text.strip_prefix("10*").or_else(|| text.strip_prefix("10^")) {
        return Some((Decimal::from(10), NONE, exponent.parse().ok()?));
    }
    let name = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let name = name.strip_suffix(['-', '+']).unwrap_or(name);
    let exponent = &text[name.len()..];
    let exponent = if exponent.is_empty() {
        1
    } else {
        exponent.parse().ok()?
    };
    let (value, dimensions) = atom(name)?;
    Some((value, dimensions, exponent))
}

fn atom(name: &str) -> Option<(Decimal, Dimensions)> {
    let find = |name: &str| ATOMS.iter().find(|(code, ..)| *code == name);
    if let Some((_, _, value, dimensions)) = find(name) {
        return Some((Decimal::parse(value)?, *dimensions));
    }
    PREFIXES.iter().find_map(|(prefix, power)| {
        let (_, metric, value, dimensions) = find(name.strip_prefix(prefix)?)?;
        let value = Decimal::parse(&format!("{value}e{power}"))?;
        metric.then_some((value, *dimensions))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_that_measure_the_same() {
        for (a, b, same) in [
            ("mg/dL", "g/L", true),
            ("mm[Hg]", "kPa", true),
            ("mmol/L", "mmol/l", true),
            ("10*3/uL", "10*9/L", true),
            ("/min", "Hz", true),
            ("mL/min/{1.73_m2}", "L/h", false),
            ("mL/min", "L/h", true),
            ("kg/m2", "g/cm2", true),
            ("{score}", "1", true),
            ("[lb_av]", "kg", true),
            ("mg", "mL", false),
            ("xyz", "mg", false),
            ("m9999", "m", false),
            ("é", "m", false),
            ("mé2", "m", false),
            (".", "/", true),
        ] {
            assert_eq!(common(a, b).is_some(), same, "{a} {b}");
        }
    }
}
