//! The context of a trace, as W3C's Trace Context (level 1, section 3.2) writes it in `traceparent`: which trace a request belongs to, and whether it is recorded.

use std::fmt;

/// Bytes of `traceparent` in version 00.
const LENGTH: usize = 55;

/// A place in a trace: under this span whatever comes of it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Of the whole trace; not all zero.
    pub trace_id: [u8; 16],
    /// Of the span; not all zero.
    pub span_id: [u8; 8],
    /// Whether whoever began the trace records it.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads `traceparent`. `None` for what is malformed, which the specification has ignored, as if nothing had come; of a later version what it has of this one is read.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let text = traceparent.as_bytes();
        let version = *decode::<1>(text.get(..2)?)?.first()?;
        let whole = match version {
            0 => text.len() == LENGTH,
            0xff => false,
            _ => text.len() == LENGTH || text.get(LENGTH) == Some(&b'-'),
        };
        if !whole || [2, 35, 52].iter().any(|dash| text.get(*dash) != Some(&b'-')) {
            return None;
        }
        let [flags] = decode::<1>(text.get(53..LENGTH)?)?;
        let this = Self {
            trace_id: decode(text.get(3..35)?)?,
            span_id: decode(text.get(36..52)?)?,
            sampled: flags & 1 == 1,
        };
        (this.trace_id != [0; 16] && this.span_id != [0; 8]).then_some(this)
    }

    /// The trace's id in hexadecimal digits.
    pub fn trace(&self) -> impl fmt::Display + use<> {
        Hex(self.trace_id)
    }
}

/// `traceparent`, version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", Hex(self.trace_id), Hex(self.span_id))
    }
}

struct Hex<const N: usize>([u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Lower-case hexadecimal digits only: the specification has it so.
fn decode<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = (*byte << 4) | value;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_written_as_it_was_read() {
        let context = TraceContext::parse(GOOD).expect("the specification's example");
        assert!(context.sampled);
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(context.trace().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let not_sampled = GOOD.replace("-01", "-00");
        let context = TraceContext::parse(&not_sampled).expect("it is well-formed");
        assert!(!context.sampled);
        assert_eq!(context.to_string(), not_sampled);
    }

    #[test]
    fn flags_that_are_not_known_and_later_versions_are_read_as_far_as_they_are_known() {
        for later in [
            GOOD.replace("-01", "-03"),
            GOOD.replacen("00-", "cc-", 1),
            GOOD.replacen("00-", "cc-", 1) + "-what-comes",
        ] {
            let context = TraceContext::parse(&later).expect(&later);
            assert_eq!(context.to_string(), GOOD);
        }
    }

    #[test]
    fn what_is_malformed_is_as_if_nothing_had_come() {
        for bad in [
            String::new(),
            "Jane Doe".into(),
            GOOD.to_uppercase(),
            GOOD[..54].into(),
            format!("{GOOD}-"),
            GOOD.replacen("00-", "ff-", 1),
            GOOD.replacen("00-", "cc-", 1) + ".x",
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace('-', "_"),
            GOOD.replace("4bf9", "ébf"),
        ] {
            assert_eq!(TraceContext::parse(&bad), None, "{bad}");
        }
    }
}
