//! Collections to one value (FHIRPath N1, section 7): `aggregate` with `$total`, and `sum min max avg`.

use super::Compiling;
use crate::fhirpath::{
    compile::Typed,
    error::{Fault, PathError},
    eval::{Few, Flow, Focus, Receiver, Resource, all, flow, for_each},
    expr::{Arithmetic, Comparison, Expr, Reduction},
    model::{Types, system},
    operators,
    value::{Item, Value},
};
use crate::number::Decimal;

pub(super) fn compile(call: &Compiling<'_>) -> Option<Result<Typed, PathError>> {
    build(call, call.args.len()).transpose()
}

fn build(call: &Compiling<'_>, arguments: usize) -> Result<Option<Typed>, PathError> {
    let reduce = |reduction| {
        let on = call.on()?;
        let types = match reduction {
            Reduction::Average => Types::one(system::DECIMAL),
            _ => on.types.computed(),
        };
        Ok(Some(Typed::new(
            Expr::Reduce(reduction, Box::new(on.expr)),
            types,
        )))
    };
    match (call.name, arguments) {
        ("aggregate", 1 | 2) => {
            let on = call.on()?;
            let step = Box::new(call.each(0, &on.types)?.expr);
            let start = match arguments {
                2 => Some(Box::new(call.argument(1)?.expr)),
                _ => None,
            };
            let expr = Expr::Aggregate(Box::new(on.expr), step, start);
            Ok(Some(Typed::new(expr, Types::UNKNOWN)))
        }
        ("aggregate", _) => Err(call.wrong("a step and at most a start")),
        ("sum", 0) => reduce(Reduction::Sum),
        ("min", 0) => reduce(Reduction::Min),
        ("max", 0) => reduce(Reduction::Max),
        ("avg", 0) => reduce(Reduction::Average),
        ("sum" | "min" | "max" | "avg", _) => Err(call.wrong("no argument")),
        _ => Ok(None),
    }
}

/// `.aggregate(step, start)`
pub(in crate::fhirpath) fn aggregate<'a>(
    base: &'a Expr,
    step: &'a Expr,
    start: Option<&'a Expr>,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut total = match start {
        Some(start) => flow(all(start, focus))?,
        None => Few::None,
    };
    let mut index = -1;
    flow(for_each(base, focus, |item| {
        index += 1;
        let mut focus = focus.at(item, index);
        focus.total = Some(&total);
        total = all(step, &focus)?;
        Ok(())
    }))?;
    total.as_slice().iter().cloned().try_for_each(receive)
}

/// `.sum()`, `.min()`, `.max()`, `.avg()`: nothing of nothing; items without a value are not counted.
pub(in crate::fhirpath) fn reduce<'a>(
    reduction: Reduction,
    base: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<Option<Item<'a>>, Fault> {
    let mut reduced = Reduced {
        value: None,
        count: 0,
        known: true,
    };
    for_each(base, focus, |item| reduced.add(reduction, &item, focus.resource))?;
    reduced.finish(reduction, focus.resource)
}

/// What was reduced so far.
struct Reduced<'a> {
    value: Option<Item<'a>>,
    count: i64,
    /// Whether all went together: a sum in range, an order that is known.
    known: bool,
}

impl<'a> Reduced<'a> {
    fn add(&mut self, reduction: Reduction, item: &Item<'a>, resource: &Resource<'a>) -> Result<(), Fault> {
        resource.read(item);
        resource.copied(item)?;
        let Some(value) = item.operand() else {
            return if item.is_complex() {
                Err(Fault::Argument(reduction.name()))
            } else {
                Ok(())
            };
        };
        self.count += 1;
        // What integers come to may be out of their range where their average is not.
        let value = match value {
            Value::Integer(value) if reduction == Reduction::Average => {
                Value::Decimal(Decimal::from(value.value()))
            }
            value => value,
        };
        let next = Item::Value(value);
        let Some(before) = self.value.take().filter(|_| self.known) else {
            self.value = Some(next);
            return Ok(());
        };
        let less = || operators::compare(Comparison::Less, &next, &before, resource);
        self.value = match reduction {
            Reduction::Sum | Reduction::Average => {
                operators::arithmetic(Arithmetic::Add, &before, &next, resource)?.map(Item::Value)
            }
            Reduction::Min => less()?.map(|less| if less { next } else { before }),
            Reduction::Max => less()?.map(|less| if less { before } else { next }),
        };
        self.known = self.value.is_some();
        Ok(())
    }

    fn finish(self, reduction: Reduction, resource: &Resource<'a>) -> Result<Option<Item<'a>>, Fault> {
        match self.value.filter(|_| self.known) {
            Some(sum) if reduction == Reduction::Average => {
                let count = Item::Value(Value::Decimal(Decimal::from(self.count)));
                Ok(operators::arithmetic(Arithmetic::Divide, &sum, &count, resource)?.map(Item::Value))
            }
            value => Ok(value),
        }
    }
}
