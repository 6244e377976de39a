//! Where strings begin and end: one bit a byte of the text, found 64 bytes at a time.
//!
//! With it, what no view asks for is passed over without looking at its bytes one by one: a string by the next bit, a container by counting
//! the brackets that are in no string. The idea is that of simdjson (Langdale and Lemire, 2019).

use wide::u8x64;

/// Bytes of a block: bits of a word.
const BLOCK: usize = 64;

/// The bits of a text, to be filled again for the next one.
#[derive(Debug, Default)]
pub(super) struct Bitmap {
    blocks: Vec<Block>,
}

/// What 64 bytes hold; the lowest bit is the first byte.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// Quotes that begin or end a string.
    quotes: u64,
    /// Bytes of strings, with the quote before and without the one after.
    in_string: u64,
    /// Backslashes; all of them within strings.
    backslashes: u64,
}

/// What is carried from a block to the next one.
#[derive(Default)]
struct Carry {
    /// 1 if the next byte is escaped.
    escaped: u64,
    /// All bits if the next byte is within a string.
    in_string: u64,
}

impl Bitmap {
    /// Fills the bits of the text. The error is the place of a byte that no JSON has there: a control character in a string, a backslash
    /// outside of one, the end within one.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> Result<(), usize> {
        self.blocks.clear();
        self.blocks.reserve(bytes.len() / BLOCK + 2);
        let mut carry = Carry::default();
        let (whole, rest) = bytes.as_chunks::<BLOCK>();
        for chunk in whole {
            self.block(chunk, &mut carry)?;
        }
        if !rest.is_empty() {
            self.block(&padded(rest), &mut carry)?;
        }
        // A string's end is looked for in two blocks at once.
        self.blocks.push(Block::default());
        if carry.in_string == 0 {
            Ok(())
        } else {
            Err(bytes.len())
        }
    }

    #[inline]
    fn block(&mut self, chunk: &[u8; BLOCK], carry: &mut Carry) -> Result<(), usize> {
        let bytes = u8x64::new(*chunk);
        let mut quotes = bits(bytes, b'"');
        let (mut backslashes, mut controls) = (0, 0);
        // Most texts have neither, but for line breaks between members.
        let control = bytes.simd_le(u8x64::splat(0x1F));
        let unusual = bytes.simd_eq(u8x64::splat(b'\\')) | control;
        if unusual.any() || carry.escaped != 0 {
            backslashes = bits(bytes, b'\\');
            quotes &= !escaped(backslashes, &mut carry.escaped);
            controls = control.to_bitmask();
        }
        let in_string = prefix_xor(quotes) ^ carry.in_string;
        carry.in_string = 0_u64.wrapping_sub(in_string >> (BLOCK - 1));
        let wrong = controls & in_string | backslashes & !in_string;
        if wrong != 0 {
            return Err(self.blocks.len() * BLOCK + wrong.trailing_zeros() as usize);
        }
        self.blocks.push(Block {
            quotes,
            in_string,
            backslashes,
        });
        Ok(())
    }

    /// Where the string ends whose content begins at `at`, and whether it holds a backslash.
    #[inline]
    pub(super) fn string(&self, at: usize) -> Option<(usize, bool)> {
        // Nobody can foresee whether a short string ends in the block that it begins in; so the bits of both are put together.
        let [first, second] = self.blocks.get(at / BLOCK..)?.first_chunk()?;
        let behind = |low: u64, high: u64| low >> (at % BLOCK) | high << 1 << (BLOCK - 1 - at % BLOCK);
        let quotes = behind(first.quotes, second.quotes);
        if quotes == 0 {
            return self.long_string(at);
        }
        let length = quotes.trailing_zeros();
        let escapes = behind(first.backslashes, second.backslashes) & below(length);
        Some((at + length as usize, escapes != 0))
    }

    #[inline(never)]
    fn long_string(&self, at: usize) -> Option<(usize, bool)> {
        let mut index = at / BLOCK;
        let mut block = *self.blocks.get(index)?;
        block.quotes &= from(at);
        block.backslashes &= from(at);
        let mut escapes = 0;
        while block.quotes == 0 {
            escapes |= block.backslashes;
            index += 1;
            block = *self.blocks.get(index)?;
        }
        let end = block.quotes.trailing_zeros();
        escapes |= block.backslashes & below(end);
        Some((index * BLOCK + end as usize, escapes != 0))
    }

    /// The first backslash in a range, both ends within the text.
    pub(super) fn backslash(&self, start: usize, end: usize) -> Option<usize> {
        let mut index = start / BLOCK;
        let last = end / BLOCK;
        let mut found = self.blocks.get(index)?.backslashes & from(start);
        while found == 0 && index < last {
            index += 1;
            found = self.blocks.get(index)?.backslashes;
        }
        let place = index * BLOCK + found.trailing_zeros() as usize;
        (found != 0 && place < end).then_some(place)
    }

    /// The place after the container that opens at `at` of the text that the bits are of.
    pub(super) fn container_end(&self, text: &[u8], at: usize) -> Option<usize> {
        let mut index = at / BLOCK;
        let mut keep = from(at);
        let mut depth = 0;
        loop {
            let outside = keep & !self.blocks.get(index)?.in_string;
            let rest = text.get(index * BLOCK..)?;
            let bytes = u8x64::new(rest.first_chunk().map_or_else(|| padded(rest), |chunk| *chunk));
            // Setting this bit makes a square bracket a curly one.
            let folded = bytes | u8x64::splat(0x20);
            let (opens, mut closes) = (bits(folded, b'{') & outside, bits(folded, b'}') & outside);
            let closing = closes.count_ones();
            if closing >= depth {
                let mut count = 0;
                while closes != 0 {
                    let place = closes.trailing_zeros();
                    count += 1;
                    if depth + (opens & below(place)).count_ones() == count {
                        return Some(index * BLOCK + place as usize + 1);
                    }
                    closes &= closes - 1;
                }
            }
            // Less than none where a bracket closes what was never opened: then `at` is no bracket of the text.
            depth = (depth + opens.count_ones()).checked_sub(closing)?;
            keep = u64::MAX;
            index += 1;
        }
    }
}

/// The bytes of a block that are this one.
fn bits(bytes: u8x64, byte: u8) -> u64 {
    bytes.simd_eq(u8x64::splat(byte)).to_bitmask()
}

/// The last block of a text.
fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    last
}

/// The bits of a block from a place of the text on.
fn from(at: usize) -> u64 {
    u64::MAX << (at % BLOCK)
}

/// The bits before one.
fn below(place: u32) -> u64 {
    (1 << place) - 1
}

/// The bytes after a backslash that is not escaped itself.
fn escaped(backslashes: u64, carried: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    if backslashes == 0 {
        return std::mem::take(carried);
    }
    // Of a run of backslashes every second one is escaped. A run that begins at an odd place is moved to even ones by the carry of a sum.
    let starting = backslashes & !*carried;
    let follows = starting << 1 | *carried;
    let odd = starting & !EVEN & !follows;
    let (sum, overflow) = odd.overflowing_add(starting);
    *carried = overflow.into();
    (EVEN ^ (sum << 1)) & follows
}

/// Each bit is the parity of the bits up to it.
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}
