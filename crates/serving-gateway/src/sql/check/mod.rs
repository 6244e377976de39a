//! What a statement may be made of: a list of what is allowed, and everything else is refused by its name and place.
//!
//! Each node that the list has is taken apart field by field, so that a later release of the parser, with fields of which nothing is known here, does
//! not compile.

mod expressions;
mod functions;
mod names;
mod types;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use pg_query::NodeEnum as N;
use pg_query::protobuf::{Node, SelectStmt};
use view_store::sql::SqlLayer;

use super::fault::{Checked, Fault};

/// A view that the registry has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownView {
    pub(super) name: String,
    /// Its rows are in tables of its own.
    pub(super) is_materialized: bool,
}

/// What a statement names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Views.
    pub(super) views: BTreeSet<String>,
    /// The table that says how fresh each view is.
    pub(super) freshness: bool,
    /// Names after a dot, with their places, that PostgreSQL would take for functions if there is no such column: whether they are harmless is for the
    /// database to say.
    pub(super) attributes: Vec<(String, usize)>,
}

/// Checks a statement whose names without a schema mean views of `layer`, and which has so many parameters.
pub(super) fn check(
    select: &SelectStmt,
    known: &[KnownView],
    layer: SqlLayer,
    parameters: usize,
) -> Checked<Found> {
    let mut check = Check {
        known,
        layer,
        used: vec![false; parameters],
        scopes: Vec::new(),
        found: Found::default(),
        at: 0,
    };
    check.select(select)?;
    if let Some(unused) = check.used.iter().position(|used| !used) {
        return Err(Fault::whole(format!(
            "does not use ${}: leave the value out, or use it",
            unused + 1
        )));
    }
    Ok(check.found)
}

struct Check<'a> {
    known: &'a [KnownView],
    layer: SqlLayer,
    /// Which parameters the statement has used.
    used: Vec<bool>,
    /// Tables of the WITHs around, the innermost last.
    scopes: Vec<Vec<String>>,
    found: Found,
    /// The last place that a node had.
    at: usize,
}

impl Check<'_> {
    fn note(&mut self, location: i32) {
        // 0 also stands for a place that is not known.
        if let Ok(at @ 1..) = usize::try_from(location) {
            self.at = at;
        }
    }

    fn fault(&self, rule: impl Into<String>) -> Fault {
        Fault::at(self.at, rule)
    }

    fn attribute(&mut self, name: &str) {
        if !functions::is_allowed(name) {
            self.found.attributes.push((name.to_owned(), self.at));
        }
    }

    fn nodes(&mut self, nodes: &[Node]) -> Checked {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    fn option(&mut self, node: Option<&Node>) -> Checked {
        node.map_or(Ok(()), |node| self.node(node))
    }

    fn select(&mut self, select: &SelectStmt) -> Checked {
        let SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = select;
        if let Some(into) = into_clause {
            self.note(into.rel.as_ref().map_or(0, |relation| relation.location));
            return Err(self.fault("SELECT INTO is not allowed: nothing can be written here"));
        }
        if !locking_clause.is_empty() {
            return Err(self
                .fault("FOR UPDATE, FOR SHARE and their like are not allowed: nothing can be locked here"));
        }
        let scopes = self.scopes.len();
        if let Some(with) = with_clause {
            self.with(with)?;
        }
        for part in [larg, rarg].into_iter().flatten() {
            self.select(part)?;
        }
        self.nodes(distinct_clause)?;
        self.nodes(target_list)?;
        self.nodes(from_clause)?;
        self.option(where_clause.as_deref())?;
        self.nodes(group_clause)?;
        self.option(having_clause.as_deref())?;
        self.nodes(window_clause)?;
        self.nodes(values_lists)?;
        self.nodes(sort_clause)?;
        self.option(limit_offset.as_deref())?;
        self.option(limit_count.as_deref())?;
        self.scopes.truncate(scopes);
        Ok(())
    }

    /// One node of the tree.
    fn node(&mut self, node: &Node) -> Checked {
        let Some(node) = &node.node else { return Ok(()) };
        match node {
            N::SelectStmt(select) => self.select(select),
            N::RangeVar(relation) => self.relation(relation),
            N::RangeSubselect(subselect) => self.subselect(subselect),
            N::RangeFunction(function) => self.table_function(function),
            N::JoinExpr(join) => self.join(join),
            N::ResTarget(target) => self.target(target),
            N::ColumnRef(column) => self.column(column),
            N::ParamRef(parameter) => self.parameter(*parameter),
            N::AConst(constant) => {
                self.note(constant.location);
                Ok(())
            }
            N::AExpr(expression) => self.operation(expression),
            N::BoolExpr(expression) => {
                self.note(expression.location);
                self.nodes(&expression.args)
            }
            N::FuncCall(call) => self.call(call),
            N::TypeCast(cast) => self.cast(cast),
            N::CollateClause(collate) => self.collate(collate),
            N::CaseExpr(case) => self.case(case),
            N::CaseWhen(when) => self.when(when),
            N::CoalesceExpr(coalesce) => {
                self.note(coalesce.location);
                self.nodes(&coalesce.args)
            }
            N::MinMaxExpr(greatest) => {
                self.note(greatest.location);
                self.nodes(&greatest.args)
            }
            N::NullTest(test) => {
                self.note(test.location);
                self.option(test.arg.as_deref())
            }
            N::BooleanTest(test) => {
                self.note(test.location);
                self.option(test.arg.as_deref())
            }
            N::RowExpr(row) => {
                self.note(row.location);
                self.nodes(&row.args)
            }
            N::AArrayExpr(array) => {
                self.note(array.location);
                self.nodes(&array.elements)
            }
            N::AIndirection(part) => self.part(part),
            N::SubLink(link) => self.link(link),
            N::SqlvalueFunction(value) => self.value_function(value),
            N::NamedArgExpr(argument) => {
                self.note(argument.location);
                self.option(argument.arg.as_deref())
            }
            N::GroupingFunc(grouping) => {
                self.note(grouping.location);
                self.nodes(&grouping.args)
            }
            N::GroupingSet(set) => {
                self.note(set.location);
                self.nodes(&set.content)
            }
            N::SortBy(by) => self.sort(by),
            N::WindowDef(window) => self.window(window),
            N::List(list) => self.nodes(&list.items),
            N::RangeTableSample(sample) => {
                self.note(sample.location);
                Err(self.fault("TABLESAMPLE is not allowed: a view has no sample"))
            }
            other => Err(self.fault(format!("{} is not allowed here", kind(other)))),
        }
    }
}

/// The names that a list of the tree holds.
fn names_of(nodes: &[Node]) -> Vec<&str> {
    nodes
        .iter()
        .filter_map(|node| match &node.node {
            Some(N::String(name)) => Some(name.sval.as_str()),
            _ => None,
        })
        .collect()
}

/// What a node is called; nothing of what it holds.
fn kind(node: &N) -> String {
    /// Takes the letters before the first sign, and then no more.
    struct Kind(String);
    impl std::fmt::Write for Kind {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            for letter in text.chars() {
                if !letter.is_alphanumeric() {
                    return Err(std::fmt::Error);
                }
                self.0.push(letter);
            }
            Ok(())
        }
    }
    let mut kind = Kind(String::new());
    let _cut_short = write!(kind, "{node:?}");
    kind.0
}

#[cfg(test)]
mod tests;
