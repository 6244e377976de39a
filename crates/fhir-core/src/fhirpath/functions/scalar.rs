//! Functions of one item: what they take, and how they are called.
//!
//! Such a function is an entry in its family's table (`strings::FUNCTIONS`, …): its name, its arguments, the type of what it yields, and what
//! computes it. Called on nothing it yields nothing; on several items it fails.

use std::borrow::Cow;

use crate::fhirpath::{
    error::Fault,
    model::{Class, Type, Types, system},
    value::{Item, Value},
};
use crate::number::Decimal;

/// A function of one item.
pub(crate) struct Function {
    /// Its name.
    pub name: &'static str,
    /// As errors show it.
    pub(super) shown: &'static str,
    /// How few and how many arguments it takes.
    pub(super) arguments: (usize, usize),
    /// Those in words.
    pub(super) takes: &'static str,
    pub(super) yields: Yields,
    pub(super) run: for<'c, 'a> fn(&Call<'c, 'a>) -> Answer<'a>,
}

/// What a function computed: nothing is empty.
pub(super) type Answer<'a> = Result<Option<Value<'a>>, Fault>;

/// The type of what a function yields.
#[derive(Debug, Clone, Copy)]
pub(super) enum Yields {
    Boolean,
    Integer,
    /// The same, but an integer64 of an integer64.
    Whole,
    Decimal,
    Text,
    Date,
    DateTime,
    Time,
    Quantity,
    TypeInfo,
    /// What it is called on, as System type.
    Same,
    /// The same, but of an integer a decimal, and of a Period the dateTime where it begins or ends.
    Edge,
}

/// A call that is evaluated.
pub(super) struct Call<'c, 'a> {
    function: &'static Function,
    pub(super) item: &'c Item<'a>,
    arguments: &'c [Option<Item<'a>>],
}

/// Steps of a function that is a series.
const SERIES: u64 = 1_000;

/// Steps of a function that is several.
const LONG_SERIES: u64 = 5_000;

/// Steps of a function that converts units.
const UNITS: u64 = 256;

/// Longest string that is built.
pub(super) const MAX_TEXT: usize = 16 * 1024 * 1024;

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    /// As errors show it: the name with parentheses.
    pub(crate) fn shown(&self) -> &'static str {
        self.shown
    }

    /// What it costs beside the length of what it is called on: functions of numbers run through series.
    pub(in crate::fhirpath) fn cost(&self) -> u64 {
        match self.name {
            "exp" | "sqrt" => SERIES,
            "ln" | "log" | "power" => LONG_SERIES,
            "toQuantity" | "convertsToQuantity" | "comparable" => UNITS,
            _ => 1,
        }
    }

    /// The types of what it yields on items of those types.
    pub(super) fn types(&self, on: &Types) -> Types {
        Types::one(match self.yields {
            Yields::Boolean => system::BOOLEAN,
            Yields::Integer => system::INTEGER,
            Yields::Decimal => system::DECIMAL,
            Yields::Text => system::STRING,
            Yields::Date => system::DATE,
            Yields::DateTime => system::DATE_TIME,
            Yields::Time => system::TIME,
            Yields::Quantity => system::QUANTITY,
            Yields::TypeInfo => system::TYPE_INFO,
            Yields::Whole => {
                let mut types = on.known().into_iter().flatten();
                if types.any(|of| of.class() == Class::Integer64) {
                    system::LONG
                } else {
                    system::INTEGER
                }
            }
            Yields::Same | Yields::Edge => {
                let edge = matches!(self.yields, Yields::Edge);
                let computed = |of: &Type| match of.computed() {
                    system::INTEGER | system::LONG if edge => system::DECIMAL,
                    of if edge && of.name() == "Period" => system::DATE_TIME,
                    of => of,
                };
                return on
                    .known()
                    .map_or(Types::UNKNOWN, |types| Types::of(types.iter().map(computed)));
            }
        })
    }

    /// Calls it on an item.
    pub(crate) fn call<'a>(&'static self, item: &Item<'a>, arguments: &[Option<Item<'a>>]) -> Answer<'a> {
        (self.run)(&Call {
            function: self,
            item,
            arguments,
        })
    }
}

impl<'a> Call<'_, 'a> {
    /// An item of a type that the function does not take; nothing, if it is only a primitive without a value.
    pub(super) fn misfit<T>(&self) -> Result<Option<T>, Fault> {
        if self.item.value().is_none() && !self.item.is_complex() {
            return Ok(None);
        }
        Err(Fault::Argument(self.function.shown))
    }

    /// What it is called on, as a string.
    pub(super) fn text(&self) -> Result<Option<Cow<'a, str>>, Fault> {
        self.item
            .text()
            .map_or_else(|| self.misfit(), |text| Ok(Some(text)))
    }

    /// An argument; nothing, if it is empty or not given.
    pub(super) fn argument(&self, at: usize) -> Option<&Item<'a>> {
        self.arguments.get(at).and_then(Option::as_ref)
    }

    /// Whether an argument is written, be it empty.
    pub(super) fn is_given(&self, at: usize) -> bool {
        self.arguments.len() > at
    }

    /// An argument as a string.
    pub(super) fn text_argument(&self, at: usize) -> Result<Option<Cow<'a, str>>, Fault> {
        self.of_argument(at, Item::text)
    }

    /// An argument as an integer.
    pub(super) fn integer_argument(&self, at: usize) -> Result<Option<i64>, Fault> {
        self.of_argument(at, |item| match item.value() {
            Some(Value::Integer(value)) => Some(value.value()),
            _ => None,
        })
    }

    /// An argument as a number.
    pub(super) fn decimal_argument(&self, at: usize) -> Result<Option<Decimal>, Fault> {
        self.of_argument(at, |item| item.value()?.decimal())
    }

    fn of_argument<T>(&self, at: usize, read: impl Fn(&Item<'a>) -> Option<T>) -> Result<Option<T>, Fault> {
        match self.argument(at) {
            None => Ok(None),
            Some(item) => match read(item) {
                None if item.value().is_some() || item.is_complex() => {
                    Err(Fault::Argument(self.function.shown))
                }
                read => Ok(read),
            },
        }
    }
}

/// A function without arguments.
pub(super) const fn plain(
    name: &'static str,
    shown: &'static str,
    yields: Yields,
    run: for<'c, 'a> fn(&Call<'c, 'a>) -> Answer<'a>,
) -> Function {
    of(name, shown, 0, "no argument", yields, run)
}

/// A function with just so many arguments.
pub(super) const fn of(
    name: &'static str,
    shown: &'static str,
    arguments: usize,
    takes: &'static str,
    yields: Yields,
    run: for<'c, 'a> fn(&Call<'c, 'a>) -> Answer<'a>,
) -> Function {
    Function {
        name,
        shown,
        arguments: (arguments, arguments),
        takes,
        yields,
        run,
    }
}

/// A string of a length that is built at all.
pub(in crate::fhirpath) fn bounded(length: usize) -> Result<(), Fault> {
    if length > MAX_TEXT {
        Err(Fault::TooLong(MAX_TEXT))
    } else {
        Ok(())
    }
}
