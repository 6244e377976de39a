//! The columns of a view and their types: what a row is made of, in FHIR's words and in PostgreSQL's.

/// One column of a view, in the order of the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name, as the definition gives it (`sql-name`).
    pub name: String,
    /// Type of the column's values; of one member for a collection.
    pub kind: ColumnKind,
    /// `collection: true`: the column holds an array of `kind`.
    pub collection: bool,
    /// The FHIR type that the definition declares, if it does.
    pub fhir_type: Option<String>,
    /// The definition's description.
    pub description: Option<String>,
    /// The path that the column selects, as written, after the paths of the iterations that it is in (`code.coding.code`): what search
    /// parameters bind to where it is a plain one.
    pub path: String,
    /// The `tag`s of the column: name and value.
    pub tags: Vec<(String, String)>,
}

/// Type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// `boolean`
    Boolean,
    /// `integer`: FHIR integer, positiveInt, unsignedInt
    Integer,
    /// `bigint`: FHIR integer64
    BigInt,
    /// `numeric`: FHIR decimal; keeps every digit and the scale
    Decimal,
    /// `numeric(precision,scale)`, by an `ansi/type` tag
    DecimalOf {
        /// Digits in all.
        precision: u16,
        /// Digits after the point.
        scale: u16,
    },
    /// `text`: every other FHIR type, in its lexical form
    Text,
    /// `timestamp with time zone`: FHIR instant
    TimestampTz,
    /// `timestamp without time zone`, by tag
    Timestamp,
    /// `date`, by tag
    Date,
    /// `time without time zone`, by tag
    Time,
    /// `double precision`, by tag
    Double,
    /// `jsonb`: a value that is not primitive, as JSON
    Json,
}

impl ColumnKind {
    /// PostgreSQL's name of the type, of one member for a collection.
    pub fn sql_name(self) -> String {
        match self {
            Self::Boolean => "boolean".into(),
            Self::Integer => "integer".into(),
            Self::BigInt => "bigint".into(),
            Self::Decimal => "numeric".into(),
            Self::DecimalOf { precision, scale } => format!("numeric({precision},{scale})"),
            Self::Text => "text".into(),
            Self::TimestampTz => "timestamp with time zone".into(),
            Self::Timestamp => "timestamp without time zone".into(),
            Self::Date => "date".into(),
            Self::Time => "time without time zone".into(),
            Self::Double => "double precision".into(),
            Self::Json => "jsonb".into(),
        }
    }
}

impl Column {
    /// A column of single values, of which no more is known.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Self {
        Self {
            name: name.into(),
            kind,
            collection: false,
            fhir_type: None,
            description: None,
            path: String::new(),
            tags: Vec::new(),
        }
    }

    /// PostgreSQL's name of the column's type, with `[]` for a collection.
    pub fn sql_type(&self) -> String {
        let name = self.kind.sql_name();
        if self.collection {
            format!("{name}[]")
        } else {
            name
        }
    }
}
