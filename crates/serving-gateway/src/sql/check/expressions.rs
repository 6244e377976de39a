//! Expressions, and what stands in FROM.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, AIndices, AIndirection, CaseExpr, CaseWhen, CollateClause, ColumnDef, FuncCall,
    JoinExpr, ParamRef, RangeFunction, RangeSubselect, ResTarget, SortBy, SqlValueFunction,
    SqlValueFunctionOp, SubLink, SubLinkType, TypeCast, WindowDef,
};

use super::{Check, functions, names_of};
use crate::sql::fault::Checked;

impl Check<'_> {
    pub(super) fn subselect(&mut self, subselect: &RangeSubselect) -> Checked {
        let RangeSubselect {
            lateral: _,
            subquery,
            alias: _,
        } = subselect;
        self.option(subquery.as_deref())
    }

    pub(super) fn join(&mut self, join: &JoinExpr) -> Checked {
        let JoinExpr {
            jointype: _,
            is_natural: _,
            larg,
            rarg,
            using_clause: _,
            join_using_alias: _,
            quals,
            alias: _,
            rtindex: _,
        } = join;
        self.option(larg.as_deref())?;
        self.option(rarg.as_deref())?;
        self.option(quals.as_deref())
    }

    /// A function in FROM; each comes as a pair with the columns that are declared for it.
    pub(super) fn table_function(&mut self, function: &RangeFunction) -> Checked {
        let RangeFunction {
            lateral: _,
            ordinality: _,
            is_rowsfrom: _,
            functions,
            alias: _,
            coldeflist,
        } = function;
        for pair in functions {
            let Some(NodeEnum::List(pair)) = &pair.node else {
                return Err(self.fault("this is not allowed in FROM"));
            };
            for (i, part) in pair.items.iter().enumerate() {
                match &part.node {
                    None => {}
                    Some(NodeEnum::List(columns)) if i == 1 => self.declared(&columns.items)?,
                    Some(_) if i == 0 => self.node(part)?,
                    Some(_) => return Err(self.fault("this is not allowed in FROM")),
                }
            }
        }
        self.declared(coldeflist)
    }

    /// `AS t (a integer, b text)`
    fn declared(&mut self, columns: &[pg_query::Node]) -> Checked {
        for column in columns {
            let Some(NodeEnum::ColumnDef(column)) = &column.node else {
                return Err(self.fault("this is not the name of a column with its type"));
            };
            let ColumnDef {
                colname: _,
                type_name,
                location,
                raw_default: None,
                cooked_default: None,
                identity_sequence: None,
                coll_clause,
                constraints,
                fdwoptions,
                ..
            } = column.as_ref()
            else {
                return Err(self.fault("a column has a name and a type here, and no more"));
            };
            self.note(*location);
            if !constraints.is_empty() || !fdwoptions.is_empty() {
                return Err(self.fault("a column has a name and a type here, and no more"));
            }
            if let Some(name) = type_name {
                self.type_name(name)?;
            }
            if let Some(collate) = coll_clause {
                self.collate(collate)?;
            }
        }
        Ok(())
    }

    pub(super) fn target(&mut self, target: &ResTarget) -> Checked {
        let ResTarget {
            name: _,
            indirection,
            val,
            location,
        } = target;
        self.note(*location);
        if !indirection.is_empty() {
            return Err(self.fault("this is not allowed in a list of columns"));
        }
        self.option(val.as_deref())
    }

    pub(super) fn parameter(&mut self, parameter: ParamRef) -> Checked {
        let ParamRef { number, location } = parameter;
        self.note(location);
        let values = self.used.len();
        let place = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        match place.and_then(|place| self.used.get_mut(place)) {
            Some(used) => {
                *used = true;
                Ok(())
            }
            None => Err(self.fault(format!("this parameter has no value: {values} are given"))),
        }
    }

    pub(super) fn operation(&mut self, expression: &AExpr) -> Checked {
        let AExpr {
            kind,
            name,
            lexpr,
            rexpr,
            rexpr_list_start: _,
            rexpr_list_end: _,
            location,
        } = expression;
        self.note(*location);
        match AExprKind::try_from(*kind) {
            // These have a word for a name.
            Ok(
                AExprKind::AexprBetween
                | AExprKind::AexprNotBetween
                | AExprKind::AexprBetweenSym
                | AExprKind::AexprNotBetweenSym,
            ) => {}
            Ok(AExprKind::Undefined) | Err(_) => return Err(self.fault("this operator is not allowed")),
            Ok(_) => self.operator(name)?,
        }
        self.option(lexpr.as_deref())?;
        self.option(rexpr.as_deref())
    }

    fn operator(&mut self, name: &[pg_query::Node]) -> Checked {
        match names_of(name).as_slice() {
            [name] if functions::is_operator(name) => Ok(()),
            [_] => Err(self.fault("this operator is not allowed")),
            _ => Err(self.fault("OPERATOR(schema.name) is not allowed: write the operator alone")),
        }
    }

    pub(super) fn call(&mut self, call: &FuncCall) -> Checked {
        let FuncCall {
            funcname,
            args,
            agg_order,
            agg_filter,
            over,
            agg_within_group: _,
            agg_star: _,
            agg_distinct: _,
            func_variadic: _,
            funcformat: _,
            location,
        } = call;
        self.note(*location);
        match names_of(funcname).as_slice() {
            [name] | ["pg_catalog", name] if functions::is_allowed(name) => {}
            [name] | ["pg_catalog", name] if is_plain(name) => {
                return Err(self.fault(format!("the function {name} is not allowed")));
            }
            _ => return Err(self.fault("this function is not allowed")),
        }
        self.nodes(args)?;
        self.nodes(agg_order)?;
        self.option(agg_filter.as_deref())?;
        over.as_deref().map_or(Ok(()), |window| self.window(window))
    }

    pub(super) fn window(&mut self, window: &WindowDef) -> Checked {
        let WindowDef {
            name: _,
            refname: _,
            partition_clause,
            order_clause,
            frame_options: _,
            start_offset,
            end_offset,
            location,
        } = window;
        self.note(*location);
        self.nodes(partition_clause)?;
        self.nodes(order_clause)?;
        self.option(start_offset.as_deref())?;
        self.option(end_offset.as_deref())
    }

    pub(super) fn sort(&mut self, by: &SortBy) -> Checked {
        let SortBy {
            node,
            sortby_dir: _,
            sortby_nulls: _,
            use_op,
            location,
        } = by;
        self.note(*location);
        if !use_op.is_empty() {
            return Err(self.fault("ORDER BY ... USING is not allowed: write ASC or DESC"));
        }
        self.option(node.as_deref())
    }

    pub(super) fn cast(&mut self, cast: &TypeCast) -> Checked {
        let TypeCast {
            arg,
            type_name,
            location,
        } = cast;
        self.note(*location);
        self.option(arg.as_deref())?;
        match type_name {
            Some(name) => self.type_name(name),
            None => Err(self.fault("this cast is not allowed")),
        }
    }

    pub(super) fn collate(&mut self, collate: &CollateClause) -> Checked {
        let CollateClause {
            arg,
            collname,
            location,
        } = collate;
        self.note(*location);
        if names_of(collname).len() != 1 {
            return Err(self.fault("a collation must be named without a schema"));
        }
        self.option(arg.as_deref())
    }

    pub(super) fn case(&mut self, case: &CaseExpr) -> Checked {
        self.note(case.location);
        self.option(case.arg.as_deref())?;
        self.nodes(&case.args)?;
        self.option(case.defresult.as_deref())
    }

    pub(super) fn when(&mut self, when: &CaseWhen) -> Checked {
        self.note(when.location);
        self.option(when.expr.as_deref())?;
        self.option(when.result.as_deref())
    }

    /// `a[1]`, `a[1:2]`, `(row).field`, `(row).*`
    pub(super) fn part(&mut self, part: &AIndirection) -> Checked {
        let AIndirection { arg, indirection } = part;
        self.option(arg.as_deref())?;
        for step in indirection {
            match &step.node {
                Some(NodeEnum::AIndices(indices)) => {
                    let AIndices {
                        is_slice: _,
                        lidx,
                        uidx,
                    } = indices.as_ref();
                    self.option(lidx.as_deref())?;
                    self.option(uidx.as_deref())?;
                }
                // PostgreSQL takes it for a function where there is no such field.
                Some(NodeEnum::String(field)) => self.attribute(&field.sval),
                Some(NodeEnum::AStar(_)) => {}
                _ => return Err(self.fault("this part of a value is not allowed")),
            }
        }
        Ok(())
    }

    pub(super) fn link(&mut self, link: &SubLink) -> Checked {
        let SubLink {
            xpr: _,
            sub_link_type,
            sub_link_id: _,
            testexpr,
            oper_name,
            subselect,
            location,
        } = link;
        self.note(*location);
        match SubLinkType::try_from(*sub_link_type) {
            Ok(
                SubLinkType::ExistsSublink
                | SubLinkType::AllSublink
                | SubLinkType::AnySublink
                | SubLinkType::ExprSublink
                | SubLinkType::ArraySublink,
            ) => {}
            _ => return Err(self.fault("this subquery is not allowed here")),
        }
        if !oper_name.is_empty() {
            self.operator(oper_name)?;
        }
        self.option(testexpr.as_deref())?;
        self.option(subselect.as_deref())
    }

    /// `current_date` and the like: times, but not who asks or where.
    pub(super) fn value_function(&mut self, value: &SqlValueFunction) -> Checked {
        use SqlValueFunctionOp as Op;
        self.note(value.location);
        match Op::try_from(value.op) {
            Ok(
                Op::SvfopCurrentDate
                | Op::SvfopCurrentTime
                | Op::SvfopCurrentTimeN
                | Op::SvfopCurrentTimestamp
                | Op::SvfopCurrentTimestampN
                | Op::SvfopLocaltime
                | Op::SvfopLocaltimeN
                | Op::SvfopLocaltimestamp
                | Op::SvfopLocaltimestampN,
            ) => Ok(()),
            _ => Err(self.fault(
                "current_user and its like are not allowed; of the keywords that are values, those of date and time are",
            )),
        }
    }
}

/// A name that can be said again: an identifier that is written without quotes.
fn is_plain(name: &str) -> bool {
    name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
