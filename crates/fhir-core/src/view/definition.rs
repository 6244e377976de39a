//! A ViewDefinition as its JSON has it, read with the place of every part, so that all errors can be told at once.
//!
//! Members that change no row (`identifier` in either shape, `contact`, `useContext`, members unknown) are not looked at.

use serde_json::{Map, Value};

use super::error::{Errors, Rule, ViewError};

/// A ViewDefinition (SQL on FHIR 3.0.0-ballot; 2.0.0 reads the same).
#[derive(Debug, Default)]
pub(super) struct Definition {
    pub(super) name: Option<String>,
    pub(super) url: Option<String>,
    pub(super) description: Option<String>,
    pub(super) resource: String,
    pub(super) constants: Vec<Constant>,
    pub(super) wheres: Vec<Path>,
    pub(super) selects: Vec<Select>,
    /// Of its text.
    pub(super) bytes: usize,
}

/// An expression and its place in the definition.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) at: String,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct Constant {
    pub(super) at: String,
    pub(super) name: String,
    /// `valueCode` → (`code`, the value); several or none are an error of the constant.
    pub(super) values: Vec<(String, Value)>,
}

#[derive(Debug)]
pub(super) struct Select {
    pub(super) at: String,
    pub(super) iterations: Vec<Iteration>,
    pub(super) columns: Vec<ColumnDef>,
    pub(super) selects: Vec<Select>,
    pub(super) union_all: Vec<Select>,
}

/// `forEach`, `forEachOrNull` or `repeat`, as written.
#[derive(Debug)]
pub(super) struct Iteration {
    pub(super) kind: IterationKind,
    pub(super) paths: Vec<Path>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IterationKind {
    ForEach,
    ForEachOrNull,
    Repeat,
}

#[derive(Debug)]
pub(super) struct ColumnDef {
    pub(super) at: String,
    pub(super) name: String,
    pub(super) path: Path,
    pub(super) fhir_type: Option<String>,
    pub(super) collection: bool,
    pub(super) description: Option<String>,
    /// Name and value, and where the value stands.
    pub(super) tags: Vec<(String, Path)>,
}

/// Selects within each other; a definition deeper than this is a mistake.
const MAX_NESTING: usize = 32;

/// Paths of a `repeat`: each is looked for from each node.
const MAX_PATHS: usize = 100;

/// Reads the definition and notes all that is wrong with its shape. What is wrong is left out.
pub(super) fn read(json: &str) -> Result<(Definition, Errors), ViewError> {
    let value: Value = serde_json::from_str(json).map_err(|e| ViewError {
        at: String::new(),
        rule: Rule::Json {
            line: e.line(),
            column: e.column(),
        },
    })?;
    let Value::Object(root) = &value else {
        return Err(ViewError {
            at: String::new(),
            rule: Rule::Shape("an object"),
        });
    };
    let mut reader = Reader {
        errors: Errors::default(),
    };
    let mut definition = reader.definition(root);
    definition.bytes = json.len();
    Ok((definition, reader.errors))
}

struct Reader {
    errors: Errors,
}

fn join(at: &str, member: &str) -> String {
    if at.is_empty() {
        member.to_owned()
    } else {
        format!("{at}.{member}")
    }
}

impl Reader {
    fn error(&mut self, at: String, rule: Rule) {
        self.errors.push(at, rule);
    }

    fn definition(&mut self, root: &Map<String, Value>) -> Definition {
        if let Some(found) = root.get("resourceType")
            && !matches!(
                found.as_str(),
                Some(
                    "ViewDefinition"
                        | "https://sql-on-fhir.org/ig/StructureDefinition/ViewDefinition"
                        | "http://hl7.org/fhir/StructureDefinition/ViewDefinition"
                )
            )
        {
            self.error("resourceType".into(), Rule::ResourceType);
        }
        let description = self
            .string(root, "", "description")
            .or_else(|| self.string(root, "", "title"));
        let mut definition = Definition {
            name: self.string(root, "", "name"),
            url: self.string(root, "", "url"),
            description,
            resource: self
                .required(root, "", "resource", "the resource type that the view is of")
                .unwrap_or_default(),
            ..Definition::default()
        };
        for (at, constant) in self.objects(root, "", "constant") {
            let Some(name) = self.required(constant, &at, "name", "a name") else {
                continue;
            };
            let values = constant
                .iter()
                .filter_map(|(key, value)| {
                    let of_type = key
                        .strip_prefix("value")
                        .filter(|t| t.starts_with(|c: char| c.is_ascii_uppercase()))?;
                    let mut chars = of_type.chars();
                    let lowered = chars
                        .next()
                        .map(|c| c.to_ascii_lowercase())
                        .into_iter()
                        .chain(chars)
                        .collect();
                    Some((lowered, value.clone()))
                })
                .collect();
            definition.constants.push(Constant { at, name, values });
        }
        for (at, filter) in self.objects(root, "", "where") {
            if let Some(text) = self.required(filter, &at, "path", "an expression") {
                definition.wheres.push(Path {
                    at: join(&at, "path"),
                    text,
                });
            }
        }
        if root.contains_key("select") {
            definition.selects = self.selects(root, "", "select", 0);
            if definition.selects.is_empty() && self.errors.found() == 0 {
                self.error("select".into(), Rule::Empty);
            }
        } else {
            self.error("select".into(), Rule::Missing("at least one select"));
        }
        definition
    }

    fn selects(&mut self, parent: &Map<String, Value>, at: &str, member: &str, depth: usize) -> Vec<Select> {
        if depth == MAX_NESTING && parent.contains_key(member) {
            self.error(
                join(at, member),
                Rule::TooBig("selects are nested deeper than 32; flatten them"),
            );
            return Vec::new();
        }
        let mut selects = Vec::new();
        for (at, select) in self.objects(parent, at, member) {
            selects.push(self.select(select, at, depth));
        }
        selects
    }

    fn select(&mut self, select: &Map<String, Value>, at: String, depth: usize) -> Select {
        let mut iterations = Vec::new();
        for (member, kind) in [
            ("forEach", IterationKind::ForEach),
            ("forEachOrNull", IterationKind::ForEachOrNull),
        ] {
            if let Some(text) = self.string(select, &at, member) {
                iterations.push(Iteration {
                    kind,
                    paths: vec![Path {
                        at: join(&at, member),
                        text,
                    }],
                });
            }
        }
        if let Some(paths) = select.get("repeat").filter(|p| !p.is_null()) {
            let here = join(&at, "repeat");
            let read: Option<Vec<Path>> = paths.as_array().filter(|p| !p.is_empty()).and_then(|paths| {
                let path = |(i, path): (usize, &Value)| {
                    Some(Path {
                        at: format!("{here}[{i}]"),
                        text: path.as_str()?.to_owned(),
                    })
                };
                paths.iter().enumerate().map(path).collect()
            });
            match read {
                Some(paths) if paths.len() > MAX_PATHS => {
                    self.error(
                        here,
                        Rule::TooBig("more than 100 paths; name a path that leads to all of them"),
                    );
                }
                Some(paths) => iterations.push(Iteration {
                    kind: IterationKind::Repeat,
                    paths,
                }),
                None => self.error(here, Rule::Shape("a list of expressions (strings)")),
            }
        }
        let mut columns = Vec::new();
        for (at, column) in self.objects(select, &at, "column") {
            columns.extend(self.column(column, at));
        }
        let selects = self.selects(select, &at, "select", depth + 1);
        let union_all = self.selects(select, &at, "unionAll", depth + 1);
        Select {
            at,
            iterations,
            columns,
            selects,
            union_all,
        }
    }

    fn column(&mut self, column: &Map<String, Value>, at: String) -> Option<ColumnDef> {
        let name = self.required(column, &at, "name", "a name");
        let path = self.required(column, &at, "path", "an expression");
        let fhir_type = self.string(column, &at, "type");
        let description = self.string(column, &at, "description");
        let collection = match column.get("collection") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            Some(_) => {
                self.error(join(&at, "collection"), Rule::Shape("true or false"));
                false
            }
        };
        let mut tags = Vec::new();
        // The element is `tag`; the specification's own example writes `tags`.
        for member in ["tag", "tags"] {
            for (at, tag) in self.objects(column, &at, member) {
                let name = self.required(tag, &at, "name", "a name");
                let value = self.required(tag, &at, "value", "a value");
                if let (Some(name), Some(text)) = (name, value) {
                    tags.push((
                        name,
                        Path {
                            at: join(&at, "value"),
                            text,
                        },
                    ));
                }
            }
        }
        let path = Path {
            at: join(&at, "path"),
            text: path?,
        };
        Some(ColumnDef {
            at,
            name: name?,
            path,
            fhir_type,
            collection,
            description,
            tags,
        })
    }

    /// A string, if it is there; another type is an error.
    fn string(&mut self, parent: &Map<String, Value>, at: &str, member: &str) -> Option<String> {
        match parent.get(member)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            _ => {
                self.error(join(at, member), Rule::Shape("a string"));
                None
            }
        }
    }

    fn required(
        &mut self,
        parent: &Map<String, Value>,
        at: &str,
        member: &str,
        what: &'static str,
    ) -> Option<String> {
        match parent.get(member) {
            None | Some(Value::Null) => {
                self.error(join(at, member), Rule::Missing(what));
                None
            }
            Some(Value::String(text)) if text.trim().is_empty() => {
                self.error(join(at, member), Rule::Missing(what));
                None
            }
            Some(_) => self.string(parent, at, member),
        }
    }

    /// The objects of a list, each with its place.
    fn objects<'v>(
        &mut self,
        parent: &'v Map<String, Value>,
        at: &str,
        member: &str,
    ) -> Vec<(String, &'v Map<String, Value>)> {
        let here = join(at, member);
        let list = match parent.get(member) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.error(here, Rule::Shape("a list of objects"));
                return Vec::new();
            }
        };
        let mut objects = Vec::new();
        for (i, value) in list.iter().enumerate() {
            let at = format!("{here}[{i}]");
            match value {
                Value::Object(object) => objects.push((at, object)),
                _ => self.error(at, Rule::Shape("an object")),
            }
        }
        objects
    }
}

impl IterationKind {
    /// The member's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ForEach => "forEach",
            Self::ForEachOrNull => "forEachOrNull",
            Self::Repeat => "repeat",
        }
    }
}
