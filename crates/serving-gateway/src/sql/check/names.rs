//! What names mean: views, tables of a WITH, columns.

use pg_query::NodeEnum;
use pg_query::protobuf::{ColumnRef, CommonTableExpr, CteCycleClause, RangeVar, WithClause};
use view_store::sql::SqlLayer;

use super::{Check, names_of};
use crate::sql::fault::Checked;

/// The public table that says how fresh each view is.
const FRESHNESS: &str = "freshness";

/// Columns that every table of PostgreSQL has.
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "ctid", "xmin", "xmax", "cmin", "cmax"];

impl Check<'_> {
    /// The tables of a WITH come into scope as PostgreSQL lets them: each for those after it, with RECURSIVE all for all. Whoever calls this ends the scope.
    pub(super) fn with(&mut self, with: &WithClause) -> Checked {
        let WithClause {
            ctes,
            recursive,
            location,
        } = with;
        self.note(*location);
        self.scopes.push(Vec::new());
        let tables = || {
            ctes.iter().filter_map(|node| match &node.node {
                Some(NodeEnum::CommonTableExpr(table)) => Some(table.as_ref()),
                _ => None,
            })
        };
        if tables().count() != ctes.len() {
            return Err(self.fault("this is not allowed in WITH"));
        }
        if *recursive {
            for table in tables() {
                self.bring_into_scope(table)?;
            }
        }
        for table in tables() {
            self.table_of_with(table)?;
            if !*recursive {
                self.bring_into_scope(table)?;
            }
        }
        Ok(())
    }

    fn bring_into_scope(&mut self, table: &CommonTableExpr) -> Checked {
        self.note(table.location);
        // The names of PostgreSQL's own tables begin so: then none of them is ever taken for a table of a WITH.
        if table.ctename.starts_with("pg_") {
            return Err(self.fault("a table's name must not begin with pg_"));
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.push(table.ctename.clone());
        }
        Ok(())
    }

    fn table_of_with(&mut self, table: &CommonTableExpr) -> Checked {
        let CommonTableExpr {
            ctename: _,
            aliascolnames: _,
            ctematerialized: _,
            ctequery,
            search_clause: _,
            cycle_clause,
            location,
            cterecursive: _,
            cterefcount: _,
            ctecolnames: _,
            ctecoltypes: _,
            ctecoltypmods: _,
            ctecolcollations: _,
        } = table;
        self.note(*location);
        match ctequery.as_ref().and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => self.select(select)?,
            _ => return Err(self.fault("only SELECT is allowed in WITH: nothing can be changed here")),
        }
        if let Some(cycle) = cycle_clause {
            let CteCycleClause {
                cycle_col_list: _,
                cycle_mark_column: _,
                cycle_mark_value,
                cycle_mark_default,
                cycle_path_column: _,
                location,
                cycle_mark_type: _,
                cycle_mark_typmod: _,
                cycle_mark_collation: _,
                cycle_mark_neop: _,
            } = cycle.as_ref();
            self.note(*location);
            self.option(cycle_mark_value.as_deref())?;
            self.option(cycle_mark_default.as_deref())?;
        }
        Ok(())
    }

    /// A table in FROM: of a WITH, or a view.
    pub(super) fn relation(&mut self, relation: &RangeVar) -> Checked {
        let RangeVar {
            catalogname,
            schemaname,
            relname,
            inh: _,
            relpersistence: _,
            alias: _,
            location,
        } = relation;
        self.note(*location);
        if !catalogname.is_empty() {
            return Err(self.fault("a table's name must not have a database before it"));
        }
        let layer = match schemaname.as_str() {
            "" if self.scopes.iter().flatten().any(|name| name == relname) => return Ok(()),
            "" => self.layer,
            "sqlonfhir" if relname == FRESHNESS => {
                self.found.freshness = true;
                return Ok(());
            }
            "sqlonfhir" => SqlLayer::Merged,
            "sqlonfhir_batch" => SqlLayer::Batch,
            _ => {
                return Err(
                    self.fault("this schema cannot be read; leave it out: a view is known by its name alone")
                );
            }
        };
        if layer != self.layer {
            let rule = match self.layer {
                SqlLayer::Merged => {
                    "this is a view of the batch: ask for freshness.layers = batch, and leave the schema out"
                }
                SqlLayer::Batch => {
                    "this is a merged view, and the answer is of the batch alone (layers = batch, or USE_SPEED_LAYER=false): leave the schema out"
                }
            };
            return Err(self.fault(rule));
        }
        let is_own = |name: &str| schemaname.is_empty() && name.starts_with("pg_");
        match self.known.iter().find(|view| view.name == *relname) {
            Some(view) if view.is_materialized && !is_own(relname) => {
                self.found.views.insert(relname.clone());
                Ok(())
            }
            Some(view) if !view.is_materialized => {
                Err(self
                    .fault("this view has no tables of its own yet: ask it with Query, which reads HAPI's"))
            }
            Some(_) => {
                Err(self
                    .fault("a view whose name begins with pg_ must be written with its schema, sqlonfhir"))
            }
            None => {
                let known: Vec<&str> = self
                    .known
                    .iter()
                    .filter(|view| view.is_materialized)
                    .map(|view| view.name.as_str())
                    .collect();
                let known = if known.is_empty() {
                    "none yet".to_owned()
                } else {
                    known.join(", ")
                };
                Err(self.fault(format!(
                    "there is no such view; there are: {known} (a name with capitals is written in double quotes)"
                )))
            }
        }
    }

    pub(super) fn column(&mut self, column: &ColumnRef) -> Checked {
        let ColumnRef { fields, location } = column;
        self.note(*location);
        if fields.len() > 3 {
            return Err(self.fault("a column's name must not have a database before it"));
        }
        for field in fields {
            match &field.node {
                Some(NodeEnum::String(_) | NodeEnum::AStar(_)) => {}
                _ => return Err(self.fault("this is not a column's name")),
            }
        }
        let names = names_of(fields);
        if let Some(last) = names.last() {
            if SYSTEM_COLUMNS.contains(last) {
                return Err(self.fault("the columns that PostgreSQL adds to tables cannot be read"));
            }
            // With a table's name before it, PostgreSQL also takes it for a function of the row.
            if fields.len() > 1 && names.len() == fields.len() {
                self.attribute(last);
            }
        }
        Ok(())
    }
}
