//! Whole numbers: of 32 bits, as FHIRPath has them, or FHIR's `integer64`.

/// An integer that knows its range: a result beyond it is none.
#[derive(Debug, Clone, Copy)]
pub struct Integer {
    value: i64,
    is_long: bool,
}

impl Integer {
    /// An integer of 32 bits (FHIRPath N1, 4.1.3); of 64 if it has more than 32 already.
    pub fn of(value: i64) -> Self {
        Self {
            value,
            is_long: i32::try_from(value).is_err(),
        }
    }

    /// An `integer64`, however small it is.
    pub fn long(value: i64) -> Self {
        Self { value, is_long: true }
    }

    /// The number.
    pub fn value(self) -> i64 {
        self.value
    }

    /// Whether it is an `integer64`.
    pub fn is_long(self) -> bool {
        self.is_long
    }

    /// What is made of it; `None` where that is out of its range.
    pub fn map(self, make: impl FnOnce(i64) -> Option<i64>) -> Option<Self> {
        make(self.value).and_then(|value| self.holds(value))
    }

    /// What is made of both, an `integer64` if one of them is; `None` where that is out of range.
    pub fn with(self, other: Self, make: impl FnOnce(i64, i64) -> Option<i64>) -> Option<Self> {
        let range = Self {
            is_long: self.is_long || other.is_long,
            ..self
        };
        make(self.value, other.value).and_then(|value| range.holds(value))
    }

    /// A number, if it is in the range of this one.
    fn holds(self, value: i64) -> Option<Self> {
        (self.is_long || i32::try_from(value).is_ok()).then_some(Self { value, ..self })
    }
}

impl From<i32> for Integer {
    fn from(value: i32) -> Self {
        Self::of(value.into())
    }
}
