-- Another one with each change of the rows that base and shadowed hold together, so that what was counted of those rows is known to hold still.
ALTER TABLE sqlonfhir_meta.view ADD COLUMN batch_state uuid NOT NULL DEFAULT gen_random_uuid();
