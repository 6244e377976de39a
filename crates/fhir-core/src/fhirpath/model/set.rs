//! The types that an expression's items can have, as far as that is known before it is evaluated.

use super::{Type, system};

/// More types than this are as good as none known.
const MOST: usize = 64;

/// A set of types; or nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Types(Option<Vec<Type>>);

impl Types {
    /// Nothing is known.
    pub(crate) const UNKNOWN: Self = Self(None);

    /// No item can come.
    pub(crate) fn none() -> Self {
        Self(Some(Vec::new()))
    }

    /// All items are of this type.
    pub(crate) fn one(of: Type) -> Self {
        Self(Some(vec![of]))
    }

    /// Any of these.
    pub(crate) fn of(types: impl IntoIterator<Item = Type>) -> Self {
        let mut types: Vec<_> = types.into_iter().collect();
        types.sort_unstable();
        types.dedup();
        if types.len() > MOST {
            return Self::UNKNOWN;
        }
        Self(Some(types))
    }

    /// The types, if they are known.
    pub(crate) fn known(&self) -> Option<&[Type]> {
        self.0.as_deref()
    }

    /// Those of either.
    #[must_use]
    pub(crate) fn or(&self, other: &Self) -> Self {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Self::of(a.iter().chain(b).copied()),
            _ => Self::UNKNOWN,
        }
    }

    /// What `ofType(of)` leaves: types that are `of`, and `of` itself where it specialises one of these.
    #[must_use]
    pub(crate) fn narrowed(&self, of: Type) -> Self {
        match &self.0 {
            None => Self::one(of),
            Some(types) => Self::of(
                types
                    .iter()
                    .filter_map(|&t| if t.is(of) { Some(t) } else { of.is(t).then_some(of) }),
            ),
        }
    }

    /// The System types that operators and functions read them as.
    #[must_use]
    pub(crate) fn computed(&self) -> Self {
        self.known().map_or(Self::UNKNOWN, |types| {
            Self::of(types.iter().map(|of| of.computed()))
        })
    }

    /// The one type, if all items have it; Long of those that are Integer or Long.
    pub(crate) fn single(&self) -> Option<Type> {
        match self.known()? {
            [of] => Some(*of),
            [system::INTEGER, system::LONG] => Some(system::LONG),
            _ => None,
        }
    }
}
