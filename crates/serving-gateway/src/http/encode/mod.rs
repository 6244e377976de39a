//! Rows as bytes of a format, one at a time.

mod csv;
mod envelope;
mod fhir;
mod json;

use api::{
    Outcome, ServiceError,
    proto::serving::{Column, Row},
    sql_run::{Format, Representation},
};

use self::envelope::Envelope;

/// Writes one answer.
pub(super) struct Encoder {
    form: Form,
    /// Around the bytes of the form.
    envelope: Option<Envelope>,
    /// No row was written yet.
    first: bool,
}

enum Form {
    Csv(csv::Csv),
    Json(json::Json),
    Ndjson(json::Json),
    Fhir(fhir::Fhir),
}

impl Encoder {
    /// For rows of these columns; an error where the format cannot hold one.
    pub(super) fn new(
        format: Format,
        representation: Representation,
        header: bool,
        columns: &[Column],
    ) -> Result<Self, Outcome> {
        let form = match format {
            Format::Csv => Form::Csv(csv::Csv::new(columns, header)),
            Format::Json => Form::Json(json::Json::new(columns)),
            Format::Ndjson => Form::Ndjson(json::Json::new(columns)),
            Format::Fhir => Form::Fhir(fhir::Fhir::new(columns)?),
        };
        let envelope = (representation == Representation::Binary).then(|| Envelope::new(format.media_type()));
        Ok(Self {
            form,
            envelope,
            first: true,
        })
    }

    /// Before the first row.
    pub(super) fn begin(&mut self, out: &mut Vec<u8>) {
        self.within(out, |form, out| match form {
            Form::Csv(csv) => csv.header(out),
            Form::Json(_) => out.push(b'['),
            Form::Ndjson(_) => {}
            Form::Fhir(_) => out.extend_from_slice(fhir::BEGIN),
        });
    }

    /// One row.
    pub(super) fn row(&mut self, row: &Row, out: &mut Vec<u8>) -> Result<(), ServiceError> {
        let first = std::mem::take(&mut self.first);
        self.within(out, |form, out| match form {
            Form::Csv(_) => {
                csv::row(row, out);
                Ok(())
            }
            Form::Ndjson(json) => {
                json.row(row, out);
                out.push(b'\n');
                Ok(())
            }
            Form::Json(json) => {
                out.extend_from_slice(if first { b"\n" } else { b",\n" });
                json.row(row, out);
                Ok(())
            }
            Form::Fhir(fhir) => {
                out.extend_from_slice(if first { fhir::BEFORE_FIRST } else { fhir::BETWEEN });
                fhir.row(row, out)
            }
        })
    }

    /// After the last row.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        let first = self.first;
        self.within(out, |form, out| match form {
            Form::Csv(_) | Form::Ndjson(_) => {}
            Form::Json(_) => out.extend_from_slice(if first { b"]\n" } else { b"\n]\n" }),
            Form::Fhir(_) => out.extend_from_slice(if first { b"}" } else { fhir::END }),
        });
        if let Some(envelope) = &mut self.envelope {
            envelope.end(out);
        }
    }

    /// Lets the form write, into the envelope if there is one.
    fn within<T>(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&Form, &mut Vec<u8>) -> T) -> T {
        let Some(envelope) = &mut self.envelope else {
            return write(&self.form, out);
        };
        let mut inner = Vec::new();
        let result = write(&self.form, &mut inner);
        envelope.push(&inner, out);
        result
    }
}

#[cfg(test)]
mod tests;
