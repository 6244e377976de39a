//! What all expressions of one resource share: the resource, and what may still be spent on it.
//!
//! A step stands for some ten nanoseconds. What takes longer than that whatever is asked of it (comparing long texts, looking through an
//! object of many members) counts as the steps that it takes, so that the time of an evaluation is bounded by [`MAX_STEPS`] and not by what an
//! author or a sender makes up.

use std::{borrow::Cow, cell::Cell};

use crate::{
    fhirpath::{
        error::Fault,
        value::{Element, Item, Value},
    },
    json::{Kind, Node},
};

/// Operators that run for one resource and view at most; a resource of 1 MB with a rich view takes some hundred thousand.
pub(super) const MAX_STEPS: u64 = 50_000_000;

/// Bytes of text that are built for one resource and view at most, those that were dropped again included.
pub(super) const MAX_BUILT: u64 = 256 * 1024 * 1024;

/// Bytes that are compared or copied in the time of a step.
const BYTES: usize = 32;

/// Bytes that are worked on character by character in the time of a step.
const CHARACTERS: usize = 8;

/// What an item that is kept with others costs, in steps: so many of them fit into memory as steps are left.
const KEPT: u64 = 8;

/// Members that are looked through in the time of a step.
const MEMBERS: usize = 2;

/// Digits that are read at once.
const SHORT: usize = 40;

/// Values within an object that has few enough members to look through.
const FEW: u32 = 128;

/// A resource, and what may still be spent on it.
#[derive(Debug)]
pub(crate) struct Resource<'a> {
    /// The resource.
    pub root: Node<'a>,
    steps: Cell<u64>,
    /// Bytes of text.
    text: Cell<u64>,
}

impl<'a> Resource<'a> {
    /// A resource that nothing was evaluated on.
    pub(crate) fn new(root: Node<'a>) -> Self {
        Self {
            root,
            steps: Cell::new(MAX_STEPS),
            text: Cell::new(MAX_BUILT),
        }
    }

    /// The same, with fewer steps.
    #[cfg(test)]
    pub(crate) fn with_steps(root: Node<'a>, steps: u64) -> Self {
        Self {
            steps: Cell::new(steps),
            ..Self::new(root)
        }
    }

    /// Counts an operator that runs, or a comparison.
    #[inline]
    pub(in crate::fhirpath) fn step(&self) -> Result<(), Fault> {
        self.steps(1)
    }

    /// Counts what takes so many steps.
    #[inline]
    pub(in crate::fhirpath) fn steps(&self, steps: u64) -> Result<(), Fault> {
        let left = self
            .steps
            .get()
            .checked_sub(steps)
            .ok_or(Fault::Steps(MAX_STEPS))?;
        self.steps.set(left);
        Ok(())
    }

    /// Counts what was done already, and is bounded by the resource's length: the next step fails where it was too much.
    #[inline]
    pub(crate) fn spend(&self, steps: u64) {
        self.steps.set(self.steps.get().saturating_sub(steps));
    }

    /// Counts bytes that are compared, copied or searched.
    #[inline]
    pub(crate) fn spend_bytes(&self, bytes: usize) {
        self.spend((bytes / BYTES) as u64);
    }

    /// Counts the digits of a number: a long one is read digit by digit, several times.
    #[inline]
    pub(in crate::fhirpath) fn spend_digits(&self, digits: usize) {
        if digits > SHORT {
            self.spend(digits as u64);
        }
    }

    /// Counts text that is worked on character by character.
    pub(crate) fn characters(&self, bytes: usize) -> Result<(), Fault> {
        self.steps((bytes / CHARACTERS) as u64)
    }

    /// Counts text that is built, or copied so that it can be kept.
    pub(in crate::fhirpath) fn build(&self, bytes: usize) -> Result<(), Fault> {
        let left = self
            .text
            .get()
            .checked_sub(bytes as u64)
            .ok_or(Fault::TooMuch(MAX_BUILT))?;
        self.text.set(left);
        self.steps((bytes / BYTES) as u64)
    }

    /// Whether text was built.
    #[inline]
    pub(crate) fn has_built(&self) -> bool {
        self.text.get() != MAX_BUILT
    }

    /// Counts the copy of an item: that of a text that was built is as long as the text. A quantity's unit is short
    /// ([`MAX_UNIT`](crate::fhirpath::quantity::MAX_UNIT)).
    #[inline]
    pub(in crate::fhirpath) fn copied(&self, item: &Item<'a>) -> Result<(), Fault> {
        match item {
            Item::Value(Value::Text(Cow::Owned(text))) => self.build(text.len()),
            _ => Ok(()),
        }
    }

    /// Counts an item or cell that is kept with others.
    #[inline]
    pub(crate) fn keep(&self) -> Result<(), Fault> {
        self.steps(KEPT)
    }

    /// Counts a search through the members of an object.
    #[inline]
    pub(in crate::fhirpath) fn look_through(&self, object: Node<'_>) {
        if object.extent() > FEW {
            self.spend((object.members().count() / MEMBERS) as u64);
        }
    }

    /// Counts the reading of an operand: the digits of a number, the members of a quantity.
    #[inline]
    pub(in crate::fhirpath) fn read(&self, item: &Item<'_>) {
        if let Item::Element(Element { node: Some(node), .. }) = item {
            match node.kind() {
                Kind::Number => self.spend_digits(node.text().len()),
                Kind::Object => self.look_through(*node),
                _ => {}
            }
        }
    }

    /// Whether nothing is left: what is in the middle of something long can stop.
    pub(in crate::fhirpath) fn is_spent(&self) -> bool {
        self.steps.get() == 0
    }
}
