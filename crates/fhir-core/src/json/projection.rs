//! Which members of a resource are wanted: what is read onto the tape, and what is passed over.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// Places that are told apart. No view of the field comes near; beyond it, members are wanted whole.
const MAX_PLACES: usize = 4_096;

/// A tree of member names. An array's items are wanted as the array is, and so is what stands beside a primitive, in `_name`.
#[derive(Debug)]
pub struct Projection {
    /// Of this projection as it is now, and of no other: what was learnt while texts were read holds for it alone.
    identity: u64,
    nodes: Vec<Wanted>,
    symbols: HashMap<Box<str>, Symbol>,
}

/// A place in a [`Projection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u32);

/// A member's name as a number, so that looking one up compares no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol(u32);

/// What is wanted of one object.
#[derive(Debug, Clone, Default)]
struct Wanted {
    /// Everything below.
    whole: bool,
    /// Some member is a choice, so that a key may have to be compared with all of them.
    choices: bool,
    members: Vec<Wish>,
    /// The object that it is a member of, and by which name; none of the resource.
    origin: Option<(Place, Name, bool)>,
    /// Places in `members` plus one by the hash of their names, 0 where there is none; at most half of the slots are taken.
    slots: Vec<u16>,
}

#[derive(Debug, Clone)]
struct Wish {
    name: Name,
    /// Names that go on with a capital letter too: `value` wants `valueQuantity`.
    choice: bool,
    symbol: Symbol,
    place: Place,
}

/// A name to compare: most are told apart by their first eight bytes and their length.
#[derive(Debug, Clone)]
struct Name {
    head: u64,
    text: Box<str>,
}

/// A key as it is read.
#[derive(Clone, Copy)]
pub(super) struct Key<'k> {
    head: u64,
    text: &'k str,
}

impl Symbol {
    /// Of a key that no expression names.
    pub(super) const OTHER: Self = Self(u32::MAX);

    /// Set where the name stands after an underscore.
    const BESIDE: u32 = 1 << 31;

    /// The symbol of the member in which FHIR keeps id and extensions of this one.
    pub(super) fn beside(self) -> Self {
        Self(self.0 | Self::BESIDE)
    }

    pub(super) fn is_beside(self) -> bool {
        Self::is_number_beside(self.0)
    }

    /// The same of a symbol's number.
    pub(super) fn is_number_beside(number: u32) -> bool {
        number & Self::BESIDE != 0
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }
}

impl Place {
    pub(super) fn number(self) -> usize {
        self.0 as usize
    }
}

impl Default for Projection {
    fn default() -> Self {
        let mut projection = Self {
            identity: 0,
            nodes: Vec::new(),
            symbols: HashMap::new(),
        };
        let root = projection.object(None);
        // Of what type the resource is stands at a place of its own.
        let of_type = projection.object(Some((root, Name::of("resourceType"), false)));
        projection.nodes[root.number()].members[0].place = of_type;
        projection
    }
}

impl Projection {
    /// The resource.
    pub const ROOT: Place = Place(0);
    /// Its `resourceType`, unless it is wanted whole.
    pub const TYPE: Place = Place(1);

    /// Everything.
    pub fn whole() -> Self {
        let mut projection = Self::default();
        projection.want_whole(Self::ROOT);
        projection
    }

    fn object(&mut self, origin: Option<(Place, Name, bool)>) -> Place {
        #[expect(clippy::cast_possible_truncation, reason = "MAX_PLACES at most")]
        let place = Place(self.nodes.len() as u32);
        self.nodes.push(Wanted {
            origin,
            ..Wanted::default()
        });
        // What a resource is of is always known.
        self.wish(place, "resourceType", false);
        place
    }

    /// The symbol of a name.
    pub fn symbol(&mut self, name: &str) -> Symbol {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "one for each name in an expression"
        )]
        let next = Symbol(self.symbols.len() as u32);
        // A name that gets a symbol only now was read without one so far.
        if !self.symbols.contains_key(name) {
            self.change();
        }
        *self.symbols.entry(name.into()).or_insert(next)
    }

    /// Wants a member, and returns its place.
    pub fn want(&mut self, of: Place, name: &str) -> Place {
        self.wish(of, name, false)
    }

    /// Wants a member of that name or of a name that goes on with a type (`value[x]`), and returns its place.
    pub fn want_choice(&mut self, of: Place, name: &str) -> Place {
        self.wish(of, name, true)
    }

    /// Wants all that is below a place.
    pub fn want_whole(&mut self, place: Place) {
        self.change();
        self.nodes[place.0 as usize].whole = true;
    }

    fn wish(&mut self, of: Place, name: &str, choice: bool) -> Place {
        let wanted = &self.nodes[of.0 as usize];
        if wanted.whole {
            return of;
        }
        // No member has such a name: it is where FHIR keeps what stands beside a primitive, and must not hide it.
        if name.starts_with('_') {
            self.want_whole(of);
            return of;
        }
        if let Some(wish) = (wanted.members.iter()).find(|w| &*w.name.text == name && w.choice == choice) {
            return wish.place;
        }
        let place = if name == "resourceType" {
            // Nothing is looked up below a resource's type.
            of
        } else if self.nodes.len() == MAX_PLACES {
            self.want_whole(of);
            return of;
        } else {
            self.object(Some((of, Name::of(name), choice)))
        };
        // A member that two wishes take would need what both want below it: it is read whole.
        let overlapping: Vec<_> = (self.nodes[of.0 as usize].members.iter())
            .filter(|w| {
                choice && w.name.text.starts_with(name) || w.choice && name.starts_with(&*w.name.text)
            })
            .map(|w| w.place)
            .collect();
        if !overlapping.is_empty() {
            overlapping
                .into_iter()
                .chain([place])
                .for_each(|place| self.want_whole(place));
        }
        self.change();
        let symbol = self.symbol(name);
        let wanted = &mut self.nodes[of.0 as usize];
        wanted.choices |= choice;
        wanted.members.push(Wish {
            name: Name::of(name),
            choice,
            symbol,
            place,
        });
        wanted.hash();
        place
    }

    fn change(&mut self) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.identity = NEXT.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that changes with whatever is wanted, and that no other projection has.
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    /// How many places there are.
    pub(super) fn places(&self) -> usize {
        self.nodes.len()
    }

    /// The place of the members of that very name, if they have one of their own. Where it is wanted whole, what is below is read there too, so
    /// that an object with members never is the only one.
    pub(crate) fn place(&self, of: Place, name: Symbol) -> Option<Place> {
        let wanted = &self.nodes[of.number()];
        let wish = wanted
            .members
            .iter()
            .find(|wish| wish.symbol == name && !wish.choice)?;
        (wish.place != of && self.is_read(wish.place)).then_some(wish.place)
    }

    /// Whether members are read at that place: not where all around it is wanted whole, nor where another wish takes them.
    fn is_read(&self, place: Place) -> bool {
        let Some((of, name, choice)) = &self.nodes[place.number()].origin else {
            return true;
        };
        let wanted = &self.nodes[of.number()];
        // What a choice shares with another wish is wanted whole, and so no place of its own.
        let found = || {
            self.named(*of, wanted, Key::of(&name.text))
                .map(|(_, found)| found)
        };
        !wanted.whole && (*choice || found() == Some(place)) && self.is_read(*of)
    }

    /// The symbol and the place of an object's member, if it is wanted.
    pub(super) fn member(&self, of: Place, key: Key<'_>) -> Option<(Symbol, Place)> {
        let wanted = &self.nodes[of.0 as usize];
        if let Some(found) = self.named(of, wanted, key) {
            return Some(found);
        }
        if let Some(bare) = key.text.strip_prefix('_') {
            return match self.named(of, wanted, Key::of(bare)) {
                Some((symbol, place)) => Some((symbol.beside(), place)),
                None => wanted.whole.then(|| (self.symbol_of(bare).beside(), of)),
            };
        }
        wanted.whole.then(|| (self.symbol_of(key.text), of))
    }

    fn named(&self, of: Place, wanted: &Wanted, key: Key<'_>) -> Option<(Symbol, Place)> {
        let place = |wish: &Wish| if wanted.whole { of } else { wish.place };
        if let Some(wish) = wanted.find(key) {
            return Some((wish.symbol, place(wish)));
        }
        if !wanted.choices {
            return None;
        }
        let wish = wanted.members.iter().find(|wish| wish.takes(key))?;
        Some((self.symbol_of(key.text), place(wish)))
    }

    fn symbol_of(&self, name: &str) -> Symbol {
        self.symbols.get(name).copied().unwrap_or(Symbol::OTHER)
    }
}

impl Name {
    fn of(text: &str) -> Self {
        Self {
            head: head(text.as_bytes(), 0, text.len()),
            text: text.into(),
        }
    }
}

impl<'k> Key<'k> {
    /// A key in a text of which at least the key is there.
    pub(super) fn within(text: &'k str, start: usize, end: usize) -> Self {
        Self {
            head: head(text.as_bytes(), start, end),
            text: &text[start..end],
        }
    }

    fn of(text: &'k str) -> Self {
        Self::within(text, 0, text.len())
    }
}

impl Wanted {
    /// Makes the slots anew.
    fn hash(&mut self) {
        self.slots = vec![0; (2 * self.members.len()).next_power_of_two()];
        for (wish, number) in self.members.iter().zip(1..) {
            let mut slot = self.slot(wish.name.head, wish.name.text.len());
            while self.slots[slot] != 0 {
                slot = (slot + 1) % self.slots.len();
            }
            self.slots[slot] = number;
        }
    }

    fn slot(&self, head: u64, length: usize) -> usize {
        // Fibonacci hashing: the upper bits of the product depend on all of the word's.
        let mixed = (head ^ length as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 48) as usize & (self.slots.len() - 1)
    }

    /// The member of that very name.
    fn find(&self, key: Key<'_>) -> Option<&Wish> {
        let mut slot = self.slot(key.head, key.text.len());
        loop {
            let number = self.slots[slot];
            if number == 0 {
                return None;
            }
            let wish = &self.members[number as usize - 1];
            let name = &wish.name;
            if name.head == key.head
                && name.text.len() == key.text.len()
                && (key.text.len() <= 8 || *name.text == *key.text)
            {
                return Some(wish);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }
}

impl Wish {
    /// Whether the key is the name of the choice with a type.
    fn takes(&self, key: Key<'_>) -> bool {
        self.choice
            && (key.text.strip_prefix(&*self.name.text))
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
    }
}

/// The first eight bytes of a range, as far as it goes.
fn head(bytes: &[u8], start: usize, end: usize) -> u64 {
    let mut first = [0; 8];
    if let Some(chunk) = bytes[start..].first_chunk::<8>() {
        first = *chunk;
    } else {
        let length = (end - start).min(8);
        first[..length].copy_from_slice(&bytes[start..start + length]);
    }
    match end - start {
        length @ 0..8 => u64::from_le_bytes(first) & ((1 << (8 * length)) - 1),
        _ => u64::from_le_bytes(first),
    }
}
