//! Definition to plan: expressions compiled, constants bound, columns typed and placed.

use super::{
    constant,
    definition::{ColumnDef, Constant, Definition, IterationKind, Path, Select as SelectDef},
    error::{Errors, Rule, ViewErrors},
    plan::{Expression, Iterate, Part, Select},
    types, validate,
    warning::ViewWarning,
};
use crate::{
    column::{Column, ColumnKind},
    fhirpath::{
        ast::Literal,
        compile::{Scope, Typed, compile_on},
        expr::Expr,
        model::Types,
        types::capitalised,
    },
};

/// Selects that iterate or branch: evaluation recurses over them.
const MAX_PARTS: usize = 100;

/// PostgreSQL's limit is 1,600 columns, of which the hidden ones take some.
const MAX_COLUMNS: usize = 1_500;

/// Longest path of a column that is told.
const MAX_PATH: usize = 4_096;

/// What stands for a longer one.
const LONG: &str = "…";

/// A definition, ready to run.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) columns: Vec<Column>,
    pub(super) wheres: Vec<Expr>,
    pub(super) root: Select,
    pub(super) warnings: Vec<ViewWarning>,
    /// Bytes of the definition: no text that stands in it is longer.
    pub(super) bytes: usize,
}

/// A column and where the definition has it.
#[derive(Debug)]
struct Slot {
    column: Column,
    at: String,
    /// Whether the type is declared, or told by what the expression yields.
    known: bool,
}

/// Columns that come one after the other, from a place of the row on.
#[derive(Debug, Default)]
struct Slots {
    first: usize,
    slots: Vec<Slot>,
}

impl Slots {
    fn from(first: usize) -> Self {
        Self {
            first,
            slots: Vec::new(),
        }
    }

    /// The place of the next one.
    fn len(&self) -> usize {
        self.first + self.slots.len()
    }
}

/// Validates and compiles; `errors` are those of the shape, and all of them are told together.
pub(super) fn run(definition: &Definition, mut errors: Errors) -> Result<Compiled, ViewErrors> {
    validate::check(definition, &mut errors);
    let mut compiler = Compiler {
        scope: Scope::of(&definition.resource),
        errors,
        warnings: Vec::new(),
        parts: 0,
        expressions: 0,
        too_big: None,
    };
    let resource = compiler.scope.resource().clone();
    for constant in &definition.constants {
        compiler.constant(constant);
    }
    let wheres = definition
        .wheres
        .iter()
        .map(|path| compiler.expression(path, &resource).expr)
        .collect();
    let mut slots = Slots::default();
    let mut root = Select {
        at: String::new(),
        iterate: Iterate::Once,
        columns: Vec::new(),
        parts: Vec::new(),
        range: 0..0,
        row_indexes: Vec::new(),
    };
    for select in &definition.selects {
        let inner = compiler.select(select, &Place::of(resource.clone()), &mut slots);
        merge(&mut root, inner);
    }
    root.range = 0..slots.len();
    compiler.duplicates(&slots.slots);
    if compiler.errors.found() == 0 {
        return Ok(Compiled {
            columns: slots.slots.into_iter().map(|s| s.column).collect(),
            wheres,
            root,
            warnings: compiler.warnings,
            bytes: definition.bytes,
        });
    }
    Err(compiler.errors.into())
}

/// Takes a nested select into its parent: a plain one yields one row for the same node, so its columns and parts are the parent's.
fn merge(parent: &mut Select, inner: Select) {
    parent.row_indexes.extend(&inner.row_indexes);
    if matches!(inner.iterate, Iterate::Once) {
        parent.columns.extend(inner.columns);
        parent.parts.extend(inner.parts);
    } else {
        parent.parts.push(Part::Select(Box::new(inner)));
    }
}

/// The path of what is selected from what an iteration yields, as search parameters know it.
fn join(prefix: &str, path: &str) -> String {
    let path = path.trim();
    // No search parameter is that long, and each column would have the text of all iterations around it.
    if prefix.len() + path.len() > MAX_PATH {
        return LONG.to_owned();
    }
    if prefix.is_empty() {
        return path.to_owned();
    }
    match path.strip_prefix("$this") {
        Some("") => prefix.to_owned(),
        Some(rest) => format!("{prefix}{rest}"),
        None => format!("{prefix}.{path}"),
    }
}

/// What a select is evaluated on.
#[derive(Clone)]
struct Place {
    /// The path to it, as search parameters know it.
    path: String,
    /// Its types.
    types: Types,
}

impl Place {
    fn of(types: Types) -> Self {
        Self {
            path: String::new(),
            types,
        }
    }
}

/// Rounds after which the types that a `repeat` leads to are taken as unknown; FHIR's own elements need two.
const MAX_ROUNDS: usize = 8;

struct Compiler {
    scope: Scope,
    errors: Errors,
    warnings: Vec<ViewWarning>,
    parts: usize,
    expressions: usize,
    /// The limit that was met first: what is left is not compiled.
    too_big: Option<&'static str>,
}

impl Compiler {
    fn error(&mut self, at: impl Into<String>, rule: Rule) {
        self.errors.push(at, rule);
    }

    fn too_big(&mut self, why: &'static str) {
        if self.too_big.is_none() {
            self.too_big = Some(why);
            self.error("select", Rule::TooBig(why));
        }
    }

    /// Counts a select that iterates or branches.
    fn part(&mut self) {
        self.parts += 1;
        if self.parts > MAX_PARTS {
            self.too_big("more than 100 selects iterate or branch; split the view");
        }
    }

    /// The expression; what is refused is noted, and reads as empty until the errors are told.
    fn expression(&mut self, path: &Path, on: &Types) -> Typed {
        compile_on(&path.text, &self.scope, on).unwrap_or_else(|error| {
            self.error(&path.at, Rule::Path(error));
            Typed {
                expr: Expr::Empty,
                types: Types::UNKNOWN,
            }
        })
    }

    fn numbered(&mut self, expr: Expr) -> Expression {
        let number = self.expressions;
        self.expressions += 1;
        Expression { expr, number }
    }

    /// The types of the nodes that `repeat` visits, with those that it begins at: what its paths lead to from there, and from there on.
    fn repeated(&self, paths: &[Path], start: &Types) -> Types {
        let mut on = start.clone();
        for _ in 0..MAX_ROUNDS {
            let mut next = on.clone();
            for path in paths {
                match compile_on(&path.text, &self.scope, &on) {
                    Ok(typed) => next = next.or(&typed.types),
                    Err(_) => return Types::UNKNOWN,
                }
            }
            if next == on {
                return on;
            }
            on = next;
        }
        Types::UNKNOWN
    }

    fn constant(&mut self, constant: &Constant) {
        let value = match constant.values.as_slice() {
            [(of_type, value)] => match constant::literal(of_type, value) {
                Ok(value) => value,
                Err(Some(write)) => {
                    let at = format!("{}.value{}", constant.at, capitalised(of_type));
                    let of_type = of_type.clone();
                    self.error(at, Rule::ConstantForm { of_type, write });
                    Literal::Boolean(false)
                }
                Err(None) => {
                    self.error(
                        &constant.at,
                        Rule::ConstantValue("a value of a type that constants do not have"),
                    );
                    Literal::Boolean(false)
                }
            },
            [] => {
                self.error(&constant.at, Rule::ConstantValue("no value"));
                Literal::Boolean(false)
            }
            _ => {
                self.error(&constant.at, Rule::ConstantValue("several values"));
                Literal::Boolean(false)
            }
        };
        self.scope.define(constant.name.clone(), value);
    }

    /// Compiles a select; its columns are added to `slots` in output order: its own, those of nested selects, those of `unionAll`.
    fn select(&mut self, def: &SelectDef, on: &Place, slots: &mut Slots) -> Select {
        let start = slots.len();
        let errors = self.errors.found();
        if self.too_big.is_some() {
            return Select {
                at: String::new(),
                iterate: Iterate::Once,
                columns: Vec::new(),
                parts: Vec::new(),
                range: start..start,
                row_indexes: Vec::new(),
            };
        }
        let (iterate, on) = self.iterate(def, on);
        if !matches!(iterate, Iterate::Once) {
            self.part();
        }
        let mut select = Select {
            at: def
                .iterations
                .first()
                .and_then(|i| i.paths.first())
                .map_or_else(|| def.at.clone(), |p| p.at.clone()),
            iterate,
            columns: Vec::new(),
            parts: Vec::new(),
            range: start..start,
            row_indexes: Vec::new(),
        };
        for column in &def.columns {
            if slots.len() == MAX_COLUMNS {
                self.too_big("more than 1,500 columns; split the view");
                break;
            }
            let typed = self.expression(&column.path, &on.types);
            if typed.expr == Expr::RowIndex {
                select.row_indexes.push(slots.len());
            }
            let slot = self.slot(column, &typed.types, &on.path);
            select.columns.push((slots.len(), self.numbered(typed.expr)));
            slots.slots.push(slot);
        }
        for inner in &def.selects {
            let inner = self.select(inner, &on, slots);
            merge(&mut select, inner);
        }
        if !def.union_all.is_empty() {
            self.part();
            let branches = self.union(&def.union_all, &on, slots);
            select.row_indexes.extend(
                branches
                    .first()
                    .iter()
                    .flat_map(|b| b.row_indexes.iter().copied()),
            );
            select.parts.push(Part::Union(branches));
        }
        select.range = start..slots.len();
        let empty = def.columns.is_empty() && def.selects.is_empty() && def.union_all.is_empty();
        if empty && self.errors.found() == errors && !self.errors.within(&def.at) {
            self.error(&def.at, Rule::Empty);
        }
        select
    }

    fn iterate(&mut self, def: &SelectDef, on: &Place) -> (Iterate, Place) {
        let Some(iteration) = def.iterations.first() else {
            return (Iterate::Once, on.clone());
        };
        for other in &def.iterations[1..] {
            for path in &other.paths {
                self.expression(path, &on.types);
            }
        }
        let texts: Vec<_> = iteration.paths.iter().map(|p| p.text.trim()).collect();
        if iteration.kind == IterationKind::Repeat {
            let visited = self.repeated(&iteration.paths, &on.types);
            let compiled = iteration.paths.iter().map(|path| self.expression(path, &visited));
            let (mut exprs, mut types) = (Vec::new(), Types::none());
            for typed in compiled {
                types = types.or(&typed.types);
                exprs.push(typed.expr);
            }
            let path = join(&on.path, &format!("repeat({})", texts.join(" | ")));
            let exprs = exprs.into_iter().map(|expr| self.numbered(expr)).collect();
            return (Iterate::Repeat(exprs), Place { path, types });
        }
        let path = join(&on.path, texts.first().copied().unwrap_or_default());
        let Some(Typed { expr, types }) = iteration.paths.first().map(|p| self.expression(p, &on.types))
        else {
            return (Iterate::Once, on.clone());
        };
        let iterate = match iteration.kind {
            IterationKind::ForEachOrNull => Iterate::ForEachOrNull(self.numbered(expr)),
            _ => Iterate::ForEach(self.numbered(expr)),
        };
        (iterate, Place { path, types })
    }

    /// Compiles the branches: all of them write the same places of the row.
    fn union(&mut self, defs: &[SelectDef], on: &Place, slots: &mut Slots) -> Vec<Select> {
        let start = slots.len();
        let mut branches = Vec::new();
        for (i, def) in defs.iter().enumerate() {
            if i == 0 {
                branches.push(self.select(def, on, slots));
                continue;
            }
            let mut own = Slots::from(start);
            branches.push(self.select(def, on, &mut own));
            let first = start - slots.first;
            if self.too_big.is_none() {
                self.same_columns(&def.at, &mut slots.slots[first..], &own.slots);
            }
        }
        branches
    }

    /// Names, order and types of a branch's columns against the first branch's.
    fn same_columns(&mut self, at: &str, first: &mut [Slot], branch: &[Slot]) {
        let names = |slots: &[Slot]| slots.iter().map(|s| s.column.name.clone()).collect::<Vec<_>>();
        let alike = |(a, b): (&Slot, &Slot)| a.column.name == b.column.name;
        if first.len() != branch.len() || !first.iter().zip(branch).all(alike) {
            let rule = Rule::UnionColumns {
                found: names(branch).join(", "),
                expected: names(first).join(", "),
            };
            self.error(at, rule);
            return;
        }
        for (first, branch) in first.iter_mut().zip(branch) {
            let differ = first.column.collection != branch.column.collection
                || (first.known && branch.known && !same_type(&first.column, &branch.column));
            if differ {
                let rule = Rule::UnionType {
                    name: branch.column.name.clone(),
                    found: describe(&branch.column),
                    expected: describe(&first.column),
                };
                self.error(&branch.at, rule);
            } else if !first.known || (first.column.fhir_type.is_none() && branch.column.fhir_type.is_some())
            {
                // One branch declares the type for all.
                first.column.kind = branch.column.kind;
                first.column.fhir_type.clone_from(&branch.column.fhir_type);
                first.known = branch.known;
            }
        }
    }

    fn slot(&mut self, def: &ColumnDef, yields: &Types, prefix: &str) -> Slot {
        let told = match &def.fhir_type {
            Some(of_type) => {
                self.contradiction(def, of_type, yields);
                Some(types::of_fhir_type(of_type))
            }
            None => types::of_types(yields),
        };
        let mut kind = told.unwrap_or(ColumnKind::Text);
        let mut known = told.is_some();
        for (name, value) in &def.tags {
            if name != "ansi/type" {
                continue;
            }
            match types::of_ansi_type(&value.text) {
                Some(tagged) => (kind, known) = (tagged, true),
                None => self.error(&value.at, Rule::AnsiType),
            }
        }
        let column = Column {
            name: def.name.clone(),
            kind,
            collection: def.collection,
            fhir_type: def.fhir_type.clone(),
            description: def.description.clone(),
            path: join(prefix, &def.path.text),
            tags: def
                .tags
                .iter()
                .map(|(name, value)| (name.clone(), value.text.clone()))
                .collect(),
        };
        Slot {
            column,
            at: def.at.clone(),
            known,
        }
    }

    /// Notes a declared type that is not what the expression yields.
    fn contradiction(&mut self, def: &ColumnDef, declared: &str, yields: &Types) {
        if types::contradicts(declared, yields) {
            let inferred = yields.known().unwrap_or_default();
            self.warnings.push(ViewWarning {
                at: format!("{}.type", def.at),
                column: def.name.clone(),
                declared: declared.to_owned(),
                inferred: inferred.iter().map(|of| of.name()).collect(),
            });
        }
    }

    fn duplicates(&mut self, slots: &[Slot]) {
        let mut seen = std::collections::HashMap::new();
        for slot in slots {
            let name = &slot.column.name;
            if let Some(first) = seen.get(name) {
                let rule = Rule::Duplicate {
                    name: name.clone(),
                    first: String::clone(first),
                };
                self.error(format!("{}.name", slot.at), rule);
            } else {
                seen.insert(name.clone(), slot.at.clone());
            }
        }
    }
}

/// Types are the same if their kinds are, and their FHIR types where both are declared.
fn same_type(a: &Column, b: &Column) -> bool {
    let name = |c: &Column| {
        let written = c.fhir_type.as_deref()?;
        Some(written.rsplit('/').next().unwrap_or(written).to_owned())
    };
    a.kind == b.kind
        && match (name(a), name(b)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
}

fn describe(column: &Column) -> String {
    let of_type = column.fhir_type.clone().unwrap_or_else(|| column.kind.sql_name());
    if column.collection {
        format!("a collection of {of_type}")
    } else {
        of_type
    }
}
