//! Several views of one resource type over one reading of each resource.

use std::sync::Arc;

use super::{CompiledView, EvalError, eval, reader::Reader};
use crate::{
    json::{Doc, Tape},
    row::RowSink,
};

/// Views of one resource type, compiled together: a resource is read once, and of it just what one of them can touch.
#[derive(Debug)]
pub struct ViewSet<V = Arc<CompiledView>> {
    views: Vec<V>,
    reader: Reader,
    /// The views' resource types, each once: one, but for sets that mix them.
    types: Vec<String>,
    /// For each view the place of its type.
    type_of: Vec<usize>,
}

impl<V: AsRef<CompiledView>> ViewSet<V> {
    /// Views that are evaluated together. Those of another type than a resource have no rows of it, and cost the reading of what they want; none
    /// is a set, too.
    pub fn new(views: impl IntoIterator<Item = V>) -> Self {
        let views: Vec<_> = views.into_iter().collect();
        let reader = Reader::new(views.iter().map(|view| &view.as_ref().compiled));
        let mut types = Vec::new();
        let type_of = (views.iter())
            .map(|view| {
                let of = &view.as_ref().resource_type;
                types.iter().position(|t| t == of).unwrap_or_else(|| {
                    types.push(of.clone());
                    types.len() - 1
                })
            })
            .collect();
        Self {
            views,
            reader,
            types,
            type_of,
        }
    }

    /// The views, in the order in which they were given.
    pub fn views(&self) -> &[V] {
        &self.views
    }

    /// Whether a view of the set may look at the member of the resource that these names lead to.
    pub fn reads(&self, path: &[&str]) -> bool {
        // Asked the way resources are read: what is passed over in a resource that has nothing but the path is never looked at.
        let probe = (path.iter().rev()).fold(
            serde_json::json!({"id": "a"}),
            |below, name| serde_json::json!({*name: below}),
        );
        let probe = probe.to_string();
        let mut tape = Tape::default();
        let Ok(doc) = self.reader.read(&mut tape, probe.as_bytes()) else {
            return true;
        };
        path.iter()
            .try_fold(doc.root(), |node, name| node.member(name))
            .is_some()
    }

    /// Reads one resource given as JSON text into the memory of `tape`, which is used again for the next one. Fails with [`EvalError::Json`] only.
    pub fn read<'a>(&'a self, tape: &'a mut Tape, json: &'a [u8]) -> Result<Reading<'a, V>, EvalError> {
        let doc = self.reader.read(tape, json)?;
        let of = eval::resource_type(doc.root()).map_or(Of::Nothing, |found| {
            let place = self.types.iter().position(|of| of == found);
            place.map_or(Of::Other, Of::Type)
        });
        Ok(Reading { set: self, doc, of })
    }
}

/// One resource, as far as the views of a set can touch it.
#[derive(Debug)]
pub struct Reading<'a, V> {
    set: &'a ViewSet<V>,
    doc: Doc<'a>,
    of: Of,
}

/// What a resource is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    /// One of the set's types, by its place.
    Type(usize),
    /// Another type.
    Other,
    /// It is no resource.
    Nothing,
}

impl<V: AsRef<CompiledView>> Reading<'_, V> {
    /// Evaluates a view of the set, by its place (SQL on FHIR, "Processing Algorithm"); returns the number of rows: 0 for a resource of another
    /// type. On an error the sink may have taken rows: discard them.
    ///
    /// # Panics
    ///
    /// If the set has no view at that place.
    pub fn rows(&self, place: usize, sink: &mut dyn RowSink) -> Result<usize, EvalError> {
        let view = self.set.views[place].as_ref();
        match self.of {
            Of::Type(of) if of == self.set.type_of[place] => {
                (self.set.reader).rows(place, &view.compiled, &self.doc, sink)
            }
            Of::Type(_) | Of::Other => Ok(0),
            Of::Nothing => Err(EvalError::NotAResource),
        }
    }
}

impl CompiledView {
    /// Evaluates one resource given as JSON text; returns the number of rows: 0 for a resource of another type.
    /// On an error the sink may have taken rows: discard them. For many resources or views, see [`ViewSet`].
    pub fn evaluate(&self, json: &[u8], sink: &mut dyn RowSink) -> Result<usize, EvalError> {
        let mut tape = Tape::default();
        let doc = self.reader.read(&mut tape, json)?;
        match eval::resource_type(doc.root()) {
            None => Err(EvalError::NotAResource),
            Some(of) if of != self.resource_type => Ok(0),
            Some(_) => self.reader.rows(0, &self.compiled, &doc, sink),
        }
    }
}

impl AsRef<Self> for CompiledView {
    fn as_ref(&self) -> &Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        fhirpath::eval::Resource,
        json::Projection,
        row::Rows,
        view::{eval, reader::Straights},
    };

    /// Expressions of every operator that looks something up; what they look up overlaps.
    const PATHS: [&str; 38] = [
        "name.first().given",
        "name[0].family",
        "name.given.first()",
        "name.first().given.first()",
        "deceased.ofType(boolean)",
        "deceased.ofType(dateTime)",
        "contact.name.family",
        "contact.first().name.given",
        "id",
        "name",
        "name.given",
        "name.where(use = 'a').given.first()",
        "name.where(given.exists()).family",
        "name[1].given[0]",
        "name.given.extension('a').value",
        "value",
        "value.ofType(string)",
        "value.ofType(Quantity).value",
        "value.value",
        "extension('a').value.ofType(code)",
        "extension('a').extension('b').value",
        "extension.exists(url = 'a')",
        "name = value",
        "name.first() = name.last()",
        "(name | value | item).count()",
        "name in item",
        "item.item.select(value | name)",
        "item.where(item.all(id.exists())).id",
        "iif(name.exists(), name.given, item.value)",
        "getResourceKey()",
        "subject.getReferenceKey()",
        "subject.getReferenceKey(Patient)",
        "subject.ofType(Patient).id",
        "subject is Patient",
        "%resource.id",
        "item.where(id = %resource.id).value",
        "item.select(%context.name.given)",
        "Patient.name.given.join(id)",
    ];

    fn views() -> impl Strategy<Value = Vec<Value>> {
        let path = || proptest::sample::select(PATHS.as_slice());
        let column = move || {
            (path(), any::<bool>()).prop_map(|(path, whole)| {
                json!({"path": path, "collection": true, "type": if whole { "Element" } else { "string" }})
            })
        };
        let select = move || {
            let columns = proptest::collection::vec(column(), 1..4);
            (columns, 0..4, path()).prop_map(|(columns, iteration, path)| match iteration {
                0 => json!({"column": columns}),
                1 => json!({"column": columns, "forEach": path}),
                2 => json!({"column": columns, "forEachOrNull": path}),
                _ => json!({"column": columns, "repeat": ["item", "extension"]}),
            })
        };
        let or = proptest::sample::select(["", " or true", " or name = 'a'"].as_slice());
        let view = (proptest::collection::vec(select(), 1..3), path(), or).prop_map(|(mut selects, path, or)| {
            let mut names = 0;
            for column in selects.iter_mut().filter_map(|s| s["column"].as_array_mut()).flatten() {
                names += 1;
                column["name"] = json!(format!("c{names}"));
            }
            json!({"resource": "Patient", "select": selects, "where": [{"path": format!("({path}).exists(){or}")}]})
        });
        proptest::collection::vec(view, 1..4)
    }

    /// None of the view's paths as a straight one.
    fn straights(view: &CompiledView) -> Straights {
        Straights {
            paths: Vec::new(),
            wheres: view.compiled.wheres.iter().map(|_| None).collect(),
        }
    }

    fn resources() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!("a")),
            Just(json!("b\"\\\u{e9}")),
            Just(json!(1.5)),
            Just(json!(true)),
            Just(json!(null)),
            Just(json!("Patient/a")),
        ];
        let value = leaf.prop_recursive(5, 60, 6, |inner| {
            let key = proptest::sample::select(
                [
                    "id",
                    "use",
                    "name",
                    "given",
                    "_given",
                    "family",
                    "url",
                    "value",
                    "valueString",
                    "_valueString",
                    "valueQuantity",
                    "valueCode",
                    "extension",
                    "item",
                    "contact",
                    "deceased",
                    "deceasedBoolean",
                    "subject",
                    "reference",
                    "resourceType",
                    "other",
                    "valueset",
                ]
                .as_slice(),
            );
            prop_oneof![
                3 => proptest::collection::vec((key, inner.clone()), 0..6).prop_map(|members| {
                    Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
                }),
                1 => proptest::collection::vec(inner, 0..3).prop_map(Value::Array),
            ]
        });
        value.prop_map(|value| match value {
            Value::Object(mut members) => {
                members.insert("resourceType".into(), json!("Patient"));
                Value::Object(members)
            }
            other => json!({"resourceType": "Patient", "name": other.clone(), "item": other.clone(), "value": other}),
        })
    }

    /// Whether what is read for a set of views is enough for each of them, and straight paths find what others do: the rows are those of
    /// plain evaluation over the whole resource.
    ///
    /// All are read into one tape, so that what was learnt of one is expected of the next.
    fn same_rows(definitions: &[Value], resources: &[&Value]) -> Result<(), TestCaseError> {
        let views: Vec<_> = definitions
            .iter()
            .map(|definition| CompiledView::from_json(&definition.to_string()).unwrap())
            .collect();
        let set = ViewSet::new(&views);
        let mut tape = Tape::default();
        for resource in resources {
            same_rows_of(&views, &set, &mut tape, resource)?;
        }
        Ok(())
    }

    fn same_rows_of(
        views: &[CompiledView],
        set: &ViewSet<&CompiledView>,
        tape: &mut Tape,
        resource: &Value,
    ) -> Result<(), TestCaseError> {
        let json = resource.to_string().into_bytes();
        let mut whole = Tape::default();
        let reading = set.read(tape, &json).unwrap();
        let doc = whole.read(&json, &Projection::whole()).unwrap();
        for (place, view) in views.iter().enumerate() {
            let (mut some, mut all, mut alone) = (Rows::default(), Rows::default(), Rows::default());
            let expected = eval::run(
                &view.compiled,
                &straights(view),
                &Resource::new(doc.root()),
                &mut all,
            );
            prop_assert_eq!(reading.rows(place, &mut some), expected.clone());
            prop_assert_eq!(view.evaluate(&json, &mut alone), expected);
            prop_assert_eq!(&some, &all);
            prop_assert_eq!(&alone, &all);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn rows_of_what_is_wanted_are_rows_of_the_whole(definitions in views(), a in resources(), b in resources()) {
            same_rows(&definitions, &[&a, &b, &a, &a])?;
        }
    }

    /// Views in which one expression wants whole, or by another kind of name, what another one wants a part of.
    #[test]
    fn what_one_expression_wants_whole_is_found_by_the_others() {
        let column = |name: &str, path: &str| json!({"name": name, "path": path, "collection": true, "type": "string"});
        let whole = |name: &str, path: &str| json!({"name": name, "path": path, "collection": true, "type": "Element"});
        // More places than are told apart.
        let names: Vec<_> = (0..100).map(|i| format!("a{i}")).collect();
        let many = format!("{} | contact", names.join(" | "));
        let names = || json!({"forEach": "contact.name", "column": [column("family", "family")]});
        let views = [
            json!([{"forEach": "item.item", "column": [column("a", "linkId")]}, {"repeat": ["item"], "column": [column("b", "linkId")]}]),
            json!([names(), {"forEach": "contact", "column": [whole("j", "$this")]}]),
            json!([names(), {"forEach": "contact", "column": [column("n", "%resource.descendants().exists()")]}]),
            json!([{"column": [column("n", "repeat(item).count()")]}, {"forEach": "item", "column": [column("a", "linkId")]}]),
            json!([{"column": [column("n", "repeat(id).count()"), column("id", "id"), column("key", "getResourceKey()")]}]),
            json!([{"column": [column("d", "deceased.exists()"), column("e", "deceased.ofType(dateTime)")]}]),
            json!([{"column": [column("x", "birthDate.extension('u').value.ofType(string)"), column("y", "_birthDate.exists()")]}]),
            json!([{"column": [column("x", "value.ofType(Quantity).where(unit = 'mg').value")]}]),
            json!([{"forEach": "contact.name.given", "column": [column("g", "$this")]}]),
            json!([{"forEach": format!("combine({many})"), "column": [column("f", "name.family"), column("id", "id"), column("k", "getResourceKey()")]}]),
        ];
        let views: Vec<_> = views
            .into_iter()
            .map(|select| json!({"resource": "Patient", "select": select}))
            .collect();
        let resource = json!({
            "resourceType": "Patient", "id": "p", "deceased": "2021-01-01", "value": {"unit": "mg", "value": 1},
            "_birthDate": {"extension": [{"url": "u", "valueString": "s"}]},
            "item": [{"linkId": "1", "item": [{"linkId": "1.1"}]}],
            "contact": [{"name": {"family": "x", "given": ["g"]}}, {"name": {"family": "y"}}],
        });
        for view in &views {
            same_rows(std::slice::from_ref(view), &[&resource]).unwrap();
        }
        same_rows(&views, &[&resource, &resource]).unwrap();
        let compiled = CompiledView::from_json(&views[0].to_string()).unwrap();
        let mut rows = Rows::default();
        compiled
            .evaluate(resource.to_string().as_bytes(), &mut rows)
            .unwrap();
        assert!(format!("{rows:?}").contains("1.1\")"), "{rows:?}");
    }

    /// Resources in which the place of an element does not tell all about it.
    #[test]
    fn what_lies_at_a_place_alone_is_no_more_than_what_a_walk_finds() {
        let column = |name: &str, path: &str| json!({"name": name, "path": path, "collection": true, "type": "string"});
        let select = json!([
            {"column": [
                column("a", "name.first().given"),
                column("b", "name.given.first()"),
                column("c", "deceased.ofType(dateTime)"),
                column("d", "birthDate"),
                column("e", "birthDate.extension.url"),
                column("f", "managingOrganization.getReferenceKey(Organization)"),
                column("g", "maritalStatus.coding.first().code"),
                column("h", "getResourceKey().first()"),
                column("i", "maritalStatus.coding.code.extension.url"),
            ]},
            {"forEachOrNull": "name.given", "column": [
                column("m", "id"),
                column("n", "extension.url"),
            ]},
            {"forEachOrNull": "contact", "column": [
                column("j", "name.family"),
                column("k", "organization.getReferenceKey()"),
                column("l", "telecom.first().value"),
            ]},
        ]);
        let view = json!({"resource": "Patient", "select": select});
        for members in [
            json!({"name": [{"family": "x"}, {"given": ["y"]}]}),
            json!({"name": [{"given": ["x", "y"]}]}),
            json!({"name": [{"given": ["x", "y"], "_given": [null, {"id": "b"}]}]}),
            json!({"name": [{"given": ["x"], "_given": [{"extension": [{"url": "u"}]}]}]}),
            json!({"contact": [{"name": {"family": "x"}, "telecom": [{"value": "1"}]}, {"name": {"family": "y"}, "telecom": [{"value": "2"}]}]}),
            json!({"contact": [{"name": {"family": "x"}}, {"name": {"family": null, "_family": {"id": "z"}}}]}),
            json!({"contact": [{"name": {"family": "x"}, "name": {"given": ["z"]}}, {"name": {"family": "y"}}]}),
            json!({"name": {"given": "x"}, "deceased": "2020-01-01"}),
            json!({"name": [[{"given": ["x"]}]]}),
            json!({"name": [null, {"given": [null, "y"]}]}),
            json!({"deceasedDateTime": "2020-01-01", "deceased": "2021-01-01"}),
            json!({"deceasedDateTime": null, "deceased": "2021-01-01"}),
            json!({"birthDate": null, "_birthDate": {"extension": [{"url": "u"}]}}),
            json!({"birthDate": "1970", "_birthDate": {"extension": [{"url": "u"}]}}),
            json!({"birthDate": {"id": "x"}, "_birthDate": {"extension": [{"url": "u"}]}}),
            json!({"_birthDate": {"extension": [{"url": "u"}]}}),
            json!({"managingOrganization": [{"reference": "Organization/1"}, {}]}),
            json!({"managingOrganization": {"reference": ["Organization/1"]}}),
            json!({"managingOrganization": {"reference": "Patient/1"}, "id": ["x"]}),
            json!({"maritalStatus": {"coding": [{"system": "s"}, {"code": "c"}]}}),
            json!({"maritalStatus": {"coding": [{"code": "c", "_code": {"extension": {"url": "u"}}}]}}),
            json!({"contact": [{"telecom": [{"use": "x"}, {"value": "1"}]}, {"name": {"family": "x"}}]}),
            json!({"contact": [{"organization": {"reference": "Organization/1"}}, {}, null]}),
            json!({"contact": {"name": [{"family": "x"}]}, "id": "p"}),
        ] {
            let mut resource = members;
            resource["resourceType"] = json!("Patient");
            same_rows(std::slice::from_ref(&view), &[&resource, &resource]).unwrap();
            // A key that comes twice: the last one counts.
            let text = resource.to_string();
            let twice = text.replacen(
                '{',
                "{\"name\":{\"given\":\"old\"},\"name\":{\"family\":\"x\"},",
                1,
            );
            let mut rows = Rows::default();
            let view = CompiledView::from_json(&view.to_string()).unwrap();
            let old =
                view.evaluate(twice.as_bytes(), &mut rows).is_ok() && format!("{rows:?}").contains("old");
            assert!(!old, "{text}");
        }
    }
}
