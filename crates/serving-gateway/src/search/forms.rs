//! How each parameter of a view can be asked: in words for people, and by values that work for programs.

use fhir_core::column::{Column, ColumnKind};

use super::{Binding, Bindings, Compared, Target, date::FORM};

/// Stands for a code, an id or a word: it need not find anything.
const EXAMPLE: &str = "example";
const SYSTEM: &str = "http://example.org/codes";

/// A parameter, and all ways of asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchForms {
    /// Name.
    pub name: String,
    /// Columns that it searches; none for what each row knows of its resource.
    pub columns: Vec<String>,
    /// One for each modifier, and one without where that can be asked.
    pub forms: Vec<SearchForm>,
}

/// One way of asking a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchForm {
    /// Empty for none.
    pub modifier: &'static str,
    /// What a value looks like.
    pub values: String,
    /// Values that are taken.
    pub examples: Vec<String>,
}

impl SearchForm {
    fn new<const N: usize>(modifier: &'static str, values: impl Into<String>, examples: [&str; N]) -> Self {
        Self {
            modifier,
            values: values.into(),
            examples: examples.map(str::to_owned).to_vec(),
        }
    }
}

impl Bindings {
    /// All that can be asked, and how.
    pub fn forms(&self) -> Vec<SearchForms> {
        let hidden = [
            (
                "_id",
                SearchForm::new("", "an id of the resource, without its type", [EXAMPLE]),
            ),
            (
                "_lastUpdated",
                SearchForm::new(
                    "",
                    FORM,
                    ["2020", "ge2020-01", "lt2020-01-31", "gt2020-01-31T10:00:00Z"],
                ),
            ),
        ];
        let hidden = hidden.map(|(name, form)| SearchForms {
            name: name.to_owned(),
            columns: Vec::new(),
            forms: vec![form],
        });
        let bound = self.bound.iter().map(|(name, binding)| SearchForms {
            name: name.clone(),
            columns: binding
                .targets
                .iter()
                .map(|target| target.column.clone())
                .collect(),
            forms: binding.forms(),
        });
        // What no value can be asked of is not worth a program's try.
        hidden
            .into_iter()
            .chain(bound.filter(|of| !of.forms.is_empty()))
            .collect()
    }
}

impl Binding {
    fn forms(&self) -> Vec<SearchForm> {
        // One column that can answer is enough: the one that can answer most.
        let plain = self
            .plain()
            .filter_map(Target::form)
            .max_by_key(|form| form.examples.len());
        let with_modifiers = self.modifiers().into_iter().filter_map(|modifier| {
            Some(match modifier {
                "text" => SearchForm::new(
                    modifier,
                    "words as they stand in the text, in capitals or not",
                    [EXAMPLE],
                ),
                "missing" => SearchForm::new(
                    modifier,
                    "true for rows without a value, false for those with one",
                    ["true", "false"],
                ),
                _ => SearchForm {
                    modifier,
                    ..plain.clone()?
                },
            })
        });
        plain.clone().into_iter().chain(with_modifiers).collect()
    }
}

impl Target {
    /// How it is asked without a modifier; `None` if it cannot be.
    fn form(&self) -> Option<SearchForm> {
        Some(match &self.compared {
            Compared::Code { system: None } => {
                let (values, example) = values_of(self.kind, None);
                SearchForm::new("", values, [example])
            }
            Compared::Code { system: Some(_) } => SearchForm::new(
                "",
                "a code, system|code, |code for one without a system, or system| for any code of a system",
                [
                    EXAMPLE,
                    &format!("{SYSTEM}|{EXAMPLE}"),
                    &format!("|{EXAMPLE}"),
                    &format!("{SYSTEM}|"),
                ],
            ),
            Compared::Words => return None,
            Compared::Date => match self.kind {
                ColumnKind::Text | ColumnKind::Date => SearchForm::new(
                    "",
                    "a date as YYYY, YYYY-MM or YYYY-MM-DD, with a prefix eq, ne, gt, ge, lt, le, sa or eb if wanted",
                    ["2020", "ge2020-01", "lt2020-01-31"],
                ),
                ColumnKind::Timestamp | ColumnKind::TimestampTz => SearchForm::new(
                    "",
                    FORM,
                    ["2020", "ge2020-01", "lt2020-01-31", "gt2020-01-31T10:00:00Z"],
                ),
                _ => return None,
            },
            Compared::Key(Some(of_type)) => SearchForm::new(
                "",
                format!("an id, or {of_type}/id"),
                [EXAMPLE, &format!("{of_type}/{EXAMPLE}")],
            ),
            Compared::Key(None) => {
                SearchForm::new("", "an id, or Type/id", [EXAMPLE, &format!("Patient/{EXAMPLE}")])
            }
            Compared::RelativeReference(Some(of_type)) => SearchForm::new(
                "",
                format!("an id, or {of_type}/id"),
                [EXAMPLE, &format!("{of_type}/{EXAMPLE}")],
            ),
            Compared::RelativeReference(None) => {
                SearchForm::new("", "Type/id", [&format!("Patient/{EXAMPLE}")])
            }
        })
    }
}

/// What a value of a column's kind looks like, and one that is taken.
pub fn values_of(kind: ColumnKind, column: Option<&Column>) -> (&'static str, &'static str) {
    let fhir_type = column.and_then(|column| column.fhir_type.as_deref());
    match kind {
        ColumnKind::Boolean => ("true or false", "true"),
        ColumnKind::Integer => ("a whole number of up to 32 bits", "42"),
        ColumnKind::BigInt => ("a whole number of up to 64 bits", "42"),
        ColumnKind::Decimal | ColumnKind::DecimalOf { .. } => ("a decimal number", "7.10"),
        ColumnKind::Text => match fhir_type {
            Some("date" | "dateTime") => (
                "text in FHIR's lexical form, compared character by character: YYYY, YYYY-MM, YYYY-MM-DD, or with a time and zone",
                "2020-01-31",
            ),
            _ => ("text, compared exactly", EXAMPLE),
        },
        ColumnKind::TimestampTz => (
            "a time with its zone, as YYYY-MM-DDThh:mm:ssZ",
            "2020-01-31T10:00:00Z",
        ),
        ColumnKind::Timestamp => (
            "a time without a zone, as YYYY-MM-DDThh:mm:ss",
            "2020-01-31T10:00:00",
        ),
        ColumnKind::Date => ("a date, as YYYY-MM-DD", "2020-01-31"),
        ColumnKind::Time => ("a time of day, as hh:mm:ss", "10:00:00"),
        ColumnKind::Double => ("a number", "0.5"),
        ColumnKind::Json => ("JSON, compared as a whole", "{}"),
    }
}
