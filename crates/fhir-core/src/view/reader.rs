//! How resources are read for some views: what they want of them, and their straight paths by the names that are wanted.

use super::{
    EvalError,
    compile::Compiled,
    eval,
    plan::{Expression, Iterate, Part, Select},
    uses,
};
use crate::{
    fhirpath::{
        eval::Resource,
        straight::{self, Condition, Straight},
        uses::Places,
    },
    json::{Doc, JsonError, Projection, Tape},
    row::RowSink,
};

/// For views that are evaluated together, of one resource type or of several.
#[derive(Debug)]
pub(super) struct Reader {
    projection: Projection,
    /// One for each view.
    views: Vec<Straights>,
}

/// The expressions of one view that are straight.
#[derive(Debug, Default)]
pub(super) struct Straights {
    /// By the number of the expression.
    pub(super) paths: Vec<Option<Straight>>,
    /// One for each `where`.
    pub(super) wheres: Vec<Option<Condition>>,
}

impl Reader {
    pub(super) fn new<'v>(views: impl Iterator<Item = &'v Compiled> + Clone) -> Self {
        let mut projection = Projection::default();
        // Paths are looked at when everything is wanted: only then it is known what is wanted whole.
        let from: Vec<_> = views
            .clone()
            .map(|view| uses::want(view, &mut projection))
            .collect();
        let views = views
            .zip(&from)
            .map(|(view, from)| Straights::of(view, from, &mut projection))
            .collect();
        Self { projection, views }
    }

    /// Reads a resource, as far as the views want it.
    pub(super) fn read<'a>(&self, tape: &'a mut Tape, json: &'a [u8]) -> Result<Doc<'a>, JsonError> {
        tape.read(json, &self.projection)
    }

    #[cfg(test)]
    pub(super) fn straights(&self, view: usize) -> &Straights {
        &self.views[view]
    }

    /// The rows of a resource in one of the views, which is of its type: `compiled` is that at the place `view`.
    pub(super) fn rows(
        &self,
        view: usize,
        compiled: &Compiled,
        doc: &Doc<'_>,
        sink: &mut dyn RowSink,
    ) -> Result<usize, EvalError> {
        eval::run(compiled, &self.views[view], &Resource::new(doc.root()), sink)
    }
}

impl Straights {
    fn of(view: &Compiled, from: &[Places], names: &mut Projection) -> Self {
        let mut straights = Self::default();
        straights.select(&view.root, from, names);
        straights.wheres = (view.wheres.iter())
            .map(|w| straight::condition(w, Some(Projection::ROOT), names))
            .collect();
        straights
    }

    fn select(&mut self, select: &Select, from: &[Places], names: &mut Projection) {
        let iterated = match &select.iterate {
            Iterate::Once => &[],
            Iterate::ForEach(path) | Iterate::ForEachOrNull(path) => std::slice::from_ref(path),
            Iterate::Repeat(paths) => paths.as_slice(),
        };
        for Expression { expr, number } in iterated.iter().chain(select.columns.iter().map(|(_, path)| path))
        {
            let from = match from.get(*number).map(Vec::as_slice) {
                Some([from]) => Some(*from),
                _ => None,
            };
            let path = straight::path(expr, from, names);
            if self.paths.len() <= *number {
                self.paths.resize_with(number + 1, || None);
            }
            self.paths[*number] = path;
        }
        for part in &select.parts {
            match part {
                Part::Select(inner) => self.select(inner, from, names),
                Part::Union(branches) => branches
                    .iter()
                    .for_each(|branch| self.select(branch, from, names)),
            }
        }
    }
}
