//! FHIR's own functions (FHIR R4, "FHIRPath: additional functions"; SQL on FHIR, "Functions"): `extension getResourceKey getReferenceKey`.

use std::ops::ControlFlow;

use super::Compiling;
use crate::fhirpath::{
    compile::Typed,
    error::PathError,
    eval::{Flow, Focus, Receiver, flow, single, stream},
    expr::Expr,
    model::{Type, Types, system},
    path,
};

pub(super) fn compile(call: &Compiling<'_>) -> Option<Result<Typed, PathError>> {
    build(call, call.args.len()).transpose()
}

fn build(call: &Compiling<'_>, arguments: usize) -> Result<Option<Typed>, PathError> {
    let on = || Ok::<_, PathError>(Box::new(call.on()?.expr));
    Ok(Some(match (call.name, arguments) {
        ("extension", 1) => {
            let expr = Expr::Extension(on()?, Box::new(call.argument(0)?.expr));
            Typed::new(expr, Type::extension().map_or(Types::UNKNOWN, Types::one))
        }
        ("extension", _) => return Err(call.wrong("one argument, the url")),
        ("getResourceKey", 0) => {
            let types = Type::id().map_or(Types::UNKNOWN, Types::one);
            Typed::new(Expr::ResourceKey(on()?), types)
        }
        ("getResourceKey", _) => return Err(call.wrong("no argument")),
        ("getReferenceKey", 0 | 1) => {
            let of_type = match arguments {
                1 => Some(call.type_test(0)?.name),
                _ => None,
            };
            Typed::new(Expr::ReferenceKey(on()?, of_type), Types::one(system::STRING))
        }
        ("getReferenceKey", _) => return Err(call.wrong("at most one argument, a resource type")),
        _ => return Ok(None),
    }))
}

/// `.extension(url)`
pub(in crate::fhirpath) fn extension<'a>(
    base: &'a Expr,
    url: &'a Expr,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let Some(url) = flow(single(url, focus, "extension()"))?.and_then(|u| u.text()) else {
        return ControlFlow::Continue(());
    };
    stream(base, focus, &mut |item| {
        path::extension(&item, &url, focus.resource, receive)
    })
}
