//! A place on the tape, and the walks from it.

use std::collections::HashMap;

use super::{Doc, Entry, Place, Symbol};

/// Members of one place that are looked at in search of one; a walk along the path looks at no more.
const MAX_MEMBERS: usize = 16;

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// A number, in its lexical form.
    Number,
    /// A string (also a key).
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// What was read at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Only<'a> {
    /// Nothing.
    None,
    /// One member: its value.
    One(Node<'a>),
    /// More than one, or something that only a walk finds.
    Several,
}

/// One JSON value of a [`Doc`].
#[derive(Clone, Copy)]
pub struct Node<'a> {
    doc: &'a Doc<'a>,
    index: u32,
}

impl<'a> Doc<'a> {
    /// The outermost value.
    pub fn root(&'a self) -> Node<'a> {
        Node { doc: self, index: 0 }
    }

    /// A string's bytes, escapes decoded.
    fn bytes(&self, entry: &Entry) -> &'a [u8] {
        let text = if entry.decoded { self.unescaped } else { self.text };
        &text.as_bytes()[entry.start as usize..entry.end as usize]
    }
}

impl<'a> Node<'a> {
    fn entry(self) -> &'a Entry {
        &self.doc.entries[self.index as usize]
    }

    pub(super) fn doc(self) -> &'a Doc<'a> {
        self.doc
    }

    /// Whether a string of the text may hold NUL.
    pub(crate) fn may_hold_nul(self) -> bool {
        self.doc.irregular
    }

    /// How many values and keys are within it: at least as many as it has members.
    #[inline]
    pub(crate) fn extent(self) -> u32 {
        self.entry().next - self.index
    }

    /// What the value is.
    pub fn kind(self) -> Kind {
        self.entry().kind
    }

    /// Whether it is a string, number or boolean.
    pub fn is_primitive(self) -> bool {
        matches!(
            self.kind(),
            Kind::True | Kind::False | Kind::Number | Kind::String
        )
    }

    /// Of a string its characters, escapes decoded; of all else the JSON text.
    pub fn text(self) -> &'a str {
        let entry = self.entry();
        let range = entry.start as usize..entry.end as usize;
        if entry.decoded {
            &self.doc.unescaped[range]
        } else {
            &self.doc.text[range]
        }
    }

    /// Whether it is a string of these characters.
    #[inline]
    pub(crate) fn is_text(self, text: &str) -> bool {
        let entry = self.entry();
        entry.kind == Kind::String && same(self.doc.bytes(entry), text.as_bytes())
    }

    /// The characters, if it is a string.
    pub fn as_str(self) -> Option<&'a str> {
        (self.kind() == Kind::String).then(|| self.text())
    }

    /// The members of an object, in text order, duplicates and all; of anything else none.
    pub fn members(self) -> Members<'a> {
        let entry = self.entry();
        let end = if entry.kind == Kind::Object {
            entry.next
        } else {
            self.index + 1
        };
        Members {
            doc: self.doc,
            at: self.index + 1,
            end,
        }
    }

    /// The items of an array; anything else is one item: itself.
    pub fn items(self) -> Items<'a> {
        let entry = self.entry();
        if entry.kind == Kind::Array {
            return Items {
                doc: self.doc,
                at: self.index + 1,
                end: entry.next,
            };
        }
        Items {
            doc: self.doc,
            at: self.index,
            end: entry.next,
        }
    }

    /// The member of that name (the last one, if there are several).
    pub fn member(self, name: &str) -> Option<Node<'a>> {
        self.property(name).0
    }

    /// The member of that name, and the one of that name after an underscore (where FHIR keeps id and extensions of a primitive). Of
    /// duplicates the last counts.
    pub fn property(self, name: &str) -> (Option<Node<'a>>, Option<Node<'a>>) {
        let (mut value, mut beside) = (None, None);
        let Members { doc, mut at, end } = self.members();
        let name = name.as_bytes();
        while at < end {
            let key = &doc.entries[at as usize];
            let length = (key.end - key.start) as usize;
            let index = at + 1;
            at = doc.entries[index as usize].next;
            // Most keys differ in length: those are not even looked at.
            if length == name.len() {
                if doc.bytes(key) == name {
                    value = Some(Node { doc, index });
                }
            } else if length == name.len() + 1 && doc.bytes(key).strip_prefix(b"_") == Some(name) {
                beside = Some(Node { doc, index });
            }
        }
        (value, beside)
    }

    /// Like [`property`](Self::property), by the symbol of the name in the projection that the text was read with.
    pub(crate) fn find(self, name: Symbol) -> (Option<Node<'a>>, Option<Node<'a>>) {
        let (mut value, mut beside) = (None, None);
        let Members { doc, mut at, end } = self.members();
        let (name, beside_name) = (name.number(), name.beside().number());
        while at < end {
            let key = doc.entries[at as usize].next;
            let index = at + 1;
            at = doc.entries[index as usize].next;
            if key == name {
                value = Some(Node { doc, index });
            } else if key == beside_name {
                beside = Some(Node { doc, index });
            }
        }
        (value, beside)
    }

    /// The member that was read at a place of the projection: the only one of the resource, within this value or not, or of several the
    /// only one within this value.
    #[inline]
    pub(crate) fn only(self, place: Place) -> Only<'a> {
        let seen = &self.doc.seen[place.number()];
        match seen.count {
            0 => Only::None,
            _ if self.doc.nested => Only::Several,
            1 => Only::One(Node {
                doc: self.doc,
                index: seen.entry,
            }),
            _ => self.only_within(place),
        }
    }

    /// The member within this value, of those that were read at a place, from the last one on.
    #[cold]
    fn only_within(self, place: Place) -> Only<'a> {
        let mut seen = self.doc.seen[place.number()];
        let end = self.entry().next;
        let mut only = Only::None;
        for _ in 0..MAX_MEMBERS {
            let at = seen.entry;
            if at <= self.index {
                return only;
            }
            if at < end {
                let key = &self.doc.entries[at as usize - 1];
                if Symbol::is_number_beside(key.next) || !matches!(only, Only::None) {
                    return Only::Several;
                }
                only = Only::One(Node {
                    doc: self.doc,
                    index: at,
                });
            }
            match seen.before.checked_sub(1) {
                Some(before) => seen = self.doc.again[before as usize],
                None => return only,
            }
        }
        Only::Several
    }

    /// Whether another value is within this one.
    pub(crate) fn holds(self, other: Node<'_>) -> bool {
        (self.index..self.entry().next).contains(&other.index)
    }

    /// Whether it is at most one item.
    pub(crate) fn is_single(self) -> bool {
        let mut items = self.items();
        items.next();
        items.next().is_none()
    }

    /// The members of an object, of duplicates the last only.
    pub(crate) fn last_members(self) -> Vec<(&'a str, Node<'a>)> {
        let mut members: Vec<_> = self.members().collect();
        let mut last = HashMap::new();
        for (key, value) in &members {
            last.insert(*key, value.index);
        }
        if last.len() < members.len() {
            members.retain(|(key, value)| last.get(key) == Some(&value.index));
        }
        members
    }

    /// Whether the member is what its name means: no other of the name comes after it.
    pub(super) fn is_last(self, name: &str, value: Node<'a>) -> bool {
        self.member(name).is_some_and(|last| last.index == value.index)
    }
}

impl std::fmt::Debug for Node<'_> {
    /// The place, never the content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({:?} at {})", self.kind(), self.index)
    }
}

/// Members of an object: name and value.
#[derive(Clone)]
pub struct Members<'a> {
    doc: &'a Doc<'a>,
    at: u32,
    end: u32,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let key = Node {
            doc: self.doc,
            index: self.at,
        };
        let value = Node {
            doc: self.doc,
            index: self.at + 1,
        };
        self.at = value.entry().next;
        Some((key.text(), value))
    }
}

/// Items of an array, or the one value.
#[derive(Clone)]
pub struct Items<'a> {
    doc: &'a Doc<'a>,
    at: u32,
    end: u32,
}

impl<'a> Iterator for Items<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        if self.at >= self.end {
            return None;
        }
        let node = Node {
            doc: self.doc,
            index: self.at,
        };
        self.at = node.entry().next;
        Some(node)
    }
}

/// Whether two texts are the same: of short ones, as codes are, their ends are compared, which may overlap.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    fn ends<const N: usize>(of: &[u8]) -> Option<([u8; N], [u8; N])> {
        Some((*of.first_chunk()?, *of.last_chunk()?))
    }
    a.len() == b.len()
        && match a.len() {
            4..8 => ends::<4>(a) == ends::<4>(b),
            8..=16 => ends::<8>(a) == ends::<8>(b),
            17..=32 => ends::<16>(a) == ends::<16>(b),
            _ => a == b,
        }
}
