//! Which members of a resource a view can touch.

use super::{
    compile::Compiled,
    plan::{Expression, Iterate, Part, Select},
};
use crate::{
    column::{Column, ColumnKind},
    fhirpath::uses::{self, On, Places},
    json::{Place, Projection},
};

/// Wants what the view's expressions look up.
///
/// Answers where the expressions are evaluated, by their number.
pub(super) fn want(view: &Compiled, projection: &mut Projection) -> Vec<Places> {
    let mut from = Vec::new();
    let root = [Projection::ROOT];
    for condition in &view.wheres {
        uses::of(condition, On::elements(&root), projection);
    }
    select(&view.root, &view.columns, &root, projection, &mut from);
    from
}

fn select(
    of: &Select,
    columns: &[Column],
    at: &[Place],
    projection: &mut Projection,
    from: &mut Vec<Places>,
) {
    let mut evaluated = |path: &Expression, at: &[Place]| {
        if from.len() <= path.number {
            from.resize(path.number + 1, Places::new());
        }
        from[path.number] = at.to_vec();
    };
    let nodes = match &of.iterate {
        Iterate::Once => at.to_vec(),
        Iterate::ForEach(path) | Iterate::ForEachOrNull(path) => {
            evaluated(path, at);
            uses::of(&path.expr, On::elements(at), projection)
        }
        Iterate::Repeat(paths) => repeated(paths, at, projection),
    };
    let on = On::elements(&nodes);
    for (place, path) in &of.columns {
        evaluated(path, &nodes);
        let expr = &path.expr;
        if columns[*place].kind == ColumnKind::Json {
            uses::whole(expr, on, projection);
        } else {
            uses::of(expr, on, projection);
        }
    }
    for part in &of.parts {
        match part {
            Part::Select(inner) => select(inner, columns, &nodes, projection, from),
            Part::Union(branches) => {
                for branch in branches {
                    select(branch, columns, &nodes, projection, from);
                }
            }
        }
    }
}

/// The first level of a repetition: what is below it is the same again, and wanted whole.
fn repeated(paths: &[Expression], at: &[Place], projection: &mut Projection) -> Places {
    let mut nodes = Places::new();
    for path in paths {
        let found = uses::of(&path.expr, On::elements(at), projection);
        for place in &found {
            projection.want_whole(*place);
        }
        nodes.extend(found);
    }
    nodes
}
