//! The plan over one resource: `Process(S, N)` of the specification, with rows handed on one at a time.
//!
//! There is one row in the making. A select writes its columns into their places and lets each of its parts do the same; the last part's
//! continuation hands the row to whoever multiplies it further, the outermost to the sink. So the Cartesian product needs no lists of
//! partial rows.

use std::borrow::Cow;

use crate::{
    column::{Column, ColumnKind},
    fhirpath::{
        direct::Look,
        error::Fault,
        eval::{Few, Focus, Resource, all, for_each},
        expr::Expr,
        straight::Straight,
        value::{Element, Item},
    },
    json::{Kind, Node, Only, Projection},
    row::{Cell, RowSink},
};

use super::{
    cell::cell,
    compile::Compiled,
    error::EvalError,
    plan::{Expression, Iterate, Part, Select},
    reader::Straights,
};

/// Levels of `repeat`: real questionnaires nest some ten deep; a path that yields its own node would never end.
pub const MAX_REPEAT_DEPTH: usize = 64;

/// Rows of one resource.
pub const MAX_ROWS: usize = 100_000;

/// Nodes visited on the way to rows: bounds products whose last factor is empty.
const MAX_NODES: usize = 1_000_000;

/// Bytes of the rows of one resource: what is written to them is a multiple of what the resource has, if it is in many of them.
pub const MAX_BYTES: usize = 256 * 1024 * 1024;

/// Columns of a row that needs no memory of its own.
const FEW_COLUMNS: usize = 16;

/// Bytes that rows may take before they are counted.
const UNMEASURED: usize = 16 * 1024 * 1024;

/// Cells that are set to null in the time of a step.
const CELLS: u64 = 16;

/// A node that rows are made of, and its place in the iteration that found it.
#[derive(Clone, Copy)]
struct At<'a> {
    node: Element<'a>,
    row_index: i64,
}

/// Hands on the row, once all before has written to it.
type Next<'n, 'a, 'r> = &'n mut dyn FnMut(&mut Evaluation<'a, 'r>) -> Result<(), EvalError>;

/// The evaluation of one resource by one view.
pub(super) struct Evaluation<'a, 'r> {
    columns: &'r [Column],
    straights: &'a Straights,
    resource: &'r Resource<'a>,
    row: &'r mut [Cell<'a>],
    sink: &'r mut dyn RowSink,
    rows: usize,
    /// More bytes than a row can have, unless text was built.
    row_bytes: usize,
    bytes: usize,
    nodes: usize,
}

/// Evaluates `where`s and selects; returns the number of rows.
pub(super) fn run<'a, 'r>(
    view: &'a Compiled,
    straights: &'a Straights,
    resource: &'r Resource<'a>,
    sink: &'r mut dyn RowSink,
) -> Result<usize, EvalError> {
    let at = At {
        node: Element::of(resource.root),
        row_index: 0,
    };
    for (index, (condition, straight)) in view.wheres.iter().zip(&straights.wheres).enumerate() {
        let holds = match straight {
            Some(straight) => straight
                .holds(at.node, resource)
                .map_err(|fault| EvalError::Where { index, fault })?,
            None => holds(condition, &Focus::on(at.node, 0, resource), index)?,
        };
        if !holds {
            return Ok(0);
        }
    }
    let mut few = [const { Cell::Null }; FEW_COLUMNS];
    let mut many = Vec::new();
    let row = if let Some(row) = few.get_mut(..view.columns.len()) {
        row
    } else {
        many.resize(view.columns.len(), Cell::Null);
        many.as_mut_slice()
    };
    let mut evaluation = Evaluation {
        columns: &view.columns,
        straights,
        resource,
        row: &mut *row,
        sink,
        rows: 0,
        row_bytes: (resource.root.text().len() + view.bytes) * view.columns.len(),
        bytes: 0,
        nodes: 0,
    };
    evaluation.process(&view.root, at, &mut Evaluation::emit)?;
    let rows = evaluation.rows;
    for cell in row {
        cell.replace(Cell::Null);
    }
    // None of its cells has anything to free.
    std::mem::forget(few);
    Ok(rows)
}

/// A `where`: true keeps the resource, false and empty do not, anything else is an error (the specification's, not FHIRPath's reading).
fn holds<'a>(condition: &'a Expr, focus: &Focus<'a, '_>, index: usize) -> Result<bool, EvalError> {
    let value = all(condition, focus).map_err(|fault| EvalError::Where { index, fault })?;
    match value {
        Few::None => Ok(false),
        Few::One(item) => item.boolean().ok_or(EvalError::WhereNotBoolean { index }),
        Few::Many(_) => Err(EvalError::WhereNotBoolean { index }),
    }
}

impl<'a, 'r> Evaluation<'a, 'r> {
    fn emit(&mut self) -> Result<(), EvalError> {
        if self.rows == MAX_ROWS {
            return Err(EvalError::TooManyRows { limit: MAX_ROWS });
        }
        // A few rows cannot be too many bytes: each cell is of the resource's text or of the view's, unless text was built, which every row may have again.
        if (self.rows + 1).saturating_mul(self.row_bytes) >= UNMEASURED || self.resource.has_built() {
            let texts: usize = self.row.iter().map(Cell::text_len).sum();
            self.bytes += size_of_val(self.row) + texts;
            if self.bytes > MAX_BYTES {
                return Err(EvalError::TooLarge { limit: MAX_BYTES });
            }
        }
        self.rows += 1;
        self.sink.row(self.row);
        Ok(())
    }

    fn visit(&mut self) -> Result<(), EvalError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            Err(EvalError::TooManyNodes { limit: MAX_NODES })
        } else {
            Ok(())
        }
    }

    fn process(&mut self, select: &'a Select, at: At<'a>, next: Next<'_, 'a, 'r>) -> Result<(), EvalError> {
        match &select.iterate {
            Iterate::Once => self.focus(select, at, next),
            Iterate::ForEach(path) => {
                let items = self.items(select, path, at)?;
                self.each(select, items.as_slice(), next)
            }
            Iterate::ForEachOrNull(path) => {
                let items = self.items(select, path, at)?;
                if items.as_slice().is_empty() {
                    self.null_row(select);
                    return next(self);
                }
                self.each(select, items.as_slice(), next)
            }
            Iterate::Repeat(paths) => {
                let mut found = Vec::new();
                self.descend(select, paths, at, 0, &mut found)?;
                self.each(select, &found, next)
            }
        }
    }

    fn straight(&self, path: &Expression) -> Option<&'a Straight> {
        self.straights.paths.get(path.number)?.as_ref()
    }

    /// Runs `each` for every item of an expression.
    fn each_item(
        &self,
        path: &'a Expression,
        at: At<'a>,
        each: impl FnMut(Item<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if let Some(straight) = self.straight(path) {
            return straight.for_each(at.node, self.resource, each);
        }
        let focus = Focus::on(at.node, at.row_index, self.resource);
        for_each(&path.expr, &focus, each)
    }

    fn items(&self, select: &Select, path: &'a Expression, at: At<'a>) -> Result<Few<'a>, EvalError> {
        let mut items = Few::None;
        let end = self.each_item(path, at, |item| items.keep(item, self.resource));
        end.map(|()| items).map_err(|fault| EvalError::Iteration {
            at: select.at.clone(),
            fault,
        })
    }

    fn each(
        &mut self,
        select: &'a Select,
        items: &[Item<'a>],
        next: Next<'_, 'a, 'r>,
    ) -> Result<(), EvalError> {
        for (row_index, item) in (0..).zip(items) {
            self.visit()?;
            // What was computed has no elements that a row could be made of.
            let node = match item {
                Item::Element(node) => *node,
                Item::Value(_) => {
                    let fault = Fault::Argument("the iteration");
                    return Err(EvalError::Iteration {
                        at: select.at.clone(),
                        fault,
                    });
                }
            };
            self.focus(select, At { node, row_index }, next)?;
        }
        Ok(())
    }

    /// Nodes below, each before what is below it, for each path in order.
    fn descend(
        &mut self,
        select: &Select,
        paths: &'a [Expression],
        at: At<'a>,
        depth: usize,
        found: &mut Vec<Item<'a>>,
    ) -> Result<(), EvalError> {
        for path in paths {
            let items = self.items(select, path, at)?;
            if depth == MAX_REPEAT_DEPTH && !items.as_slice().is_empty() {
                return Err(EvalError::RepeatDepth {
                    at: select.at.clone(),
                    limit: MAX_REPEAT_DEPTH,
                });
            }
            for item in items.as_slice() {
                if found.len() == MAX_ROWS {
                    return Err(EvalError::TooManyRows { limit: MAX_ROWS });
                }
                self.visit()?;
                found.push(item.clone());
                if let Item::Element(node) = item {
                    self.descend(
                        select,
                        paths,
                        At {
                            node: *node,
                            row_index: 0,
                        },
                        depth + 1,
                        found,
                    )?;
                }
            }
        }
        Ok(())
    }

    /// The row of a `forEachOrNull` without items: null in every column of the subtree, 0 for `%rowIndex`.
    fn null_row(&mut self, select: &Select) {
        self.resource.spend(select.range.len() as u64 / CELLS);
        for place in select.range.clone() {
            self.row[place] = Cell::Null;
        }
        for &place in &select.row_indexes {
            let Column { kind, collection, .. } = self.columns[place];
            self.row[place] = match kind {
                // The row stands for no item at all.
                _ if collection => Cell::Null,
                ColumnKind::Integer => Cell::Integer(0),
                ColumnKind::BigInt => Cell::BigInt(0),
                ColumnKind::Text => Cell::Text("0".into()),
                ColumnKind::Decimal | ColumnKind::DecimalOf { .. } => Cell::Decimal("0".into()),
                ColumnKind::Double => Cell::Double(0.0),
                _ => Cell::Null,
            };
        }
    }

    /// One node: the select's own columns, then its parts.
    fn focus(&mut self, select: &'a Select, at: At<'a>, next: Next<'_, 'a, 'r>) -> Result<(), EvalError> {
        for (place, path) in &select.columns {
            if !self.plain_cell(*place, path, at) {
                let cell = self.column(&self.columns[*place], path, at)?;
                self.row[*place].replace(cell);
            }
        }
        self.parts(&select.parts, at, next)
    }

    fn parts(&mut self, parts: &'a [Part], at: At<'a>, next: Next<'_, 'a, 'r>) -> Result<(), EvalError> {
        let Some((part, rest)) = parts.split_first() else {
            return next(self);
        };
        if rest.is_empty() {
            return self.part(part, at, next);
        }
        self.part(part, at, &mut |evaluation| evaluation.parts(rest, at, next))
    }

    fn part(&mut self, part: &'a Part, at: At<'a>, next: Next<'_, 'a, 'r>) -> Result<(), EvalError> {
        match part {
            Part::Select(select) => self.process(select, at, next),
            Part::Union(branches) => branches
                .iter()
                .try_for_each(|branch| self.process(branch, at, next)),
        }
    }

    /// The cell of a column whose path leads to one value that is a cell of its type, or to nothing, without a walk, as most have in
    /// most resources. False where it is not: that is for [`column`](Self::column) to make.
    #[inline]
    fn plain_cell(&mut self, place: usize, path: &'a Expression, at: At<'a>) -> bool {
        let column = &self.columns[place];
        let Some(straight) = self.straight(path).filter(|_| !column.collection) else {
            return false;
        };
        let Ok(look) = straight.look(at.node, self.resource) else {
            return false;
        };
        // Each is written where it is made: a cell that is put together elsewhere and copied takes twice as long.
        let into = &mut self.row[place];
        match look {
            Look::Nothing => into.replace(Cell::Null),
            Look::Key(key) if column.kind == ColumnKind::Text => {
                into.replace(Cell::Text(Cow::Borrowed(key)));
            }
            Look::Value(node, _) if column.kind == ColumnKind::Text && node.kind() == Kind::String => {
                if node.may_hold_nul() {
                    return false;
                }
                into.replace(Cell::Text(Cow::Borrowed(node.text())));
            }
            Look::Value(node, of) if node.is_primitive() => {
                let Ok(cell) = cell(&Item::Element(Element::alone(node, of)), column) else {
                    return false;
                };
                self.resource.spend_bytes(node.text().len());
                into.replace(cell.unwrap_or(Cell::Null));
            }
            Look::Key(_) | Look::Value(..) | Look::Walk => return false,
        }
        true
    }

    #[inline(never)]
    fn column(&self, column: &Column, path: &'a Expression, at: At<'a>) -> Result<Cell<'a>, EvalError> {
        let mut one = None;
        let mut list = Vec::new();
        let mut failure = None;
        let end = self.each_item(path, at, |item| {
            let made = cell(&item, column);
            if let Ok(Some(cell)) = &made {
                self.resource.characters(cell.text_len())?;
            }
            match made {
                Ok(None) => {}
                Ok(Some(cell)) if column.collection => {
                    self.resource.keep()?;
                    list.push(cell);
                }
                Ok(Some(cell)) if one.is_none() => one = Some(cell),
                Ok(Some(_)) => {
                    failure.get_or_insert_with(|| EvalError::SeveralValues {
                        column: column.name.clone(),
                    });
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
            Ok(())
        });
        end.map_err(|fault| EvalError::Column {
            column: column.name.clone(),
            fault,
        })?;
        match failure {
            Some(error) => Err(error),
            None if column.collection => Ok(Cell::List(list)),
            None => Ok(one.unwrap_or(Cell::Null)),
        }
    }
}

/// The type of a resource; nothing of what is none.
pub(super) fn resource_type(root: Node<'_>) -> Option<&str> {
    match root.only(Projection::TYPE) {
        Only::One(found) if root.kind() == Kind::Object => found.as_str(),
        _ => Element::of(root).resource_type(),
    }
}
