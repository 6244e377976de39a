-- Another one with each change of the rows that base and shadowed hold together, so that what was counted of those rows is known to hold still. (A constant first: the table is
-- not written anew, which readers with an older snapshot would see as empty.)
ALTER TABLE sqlonfhir_meta.view ADD COLUMN batch_state uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE sqlonfhir_meta.view ALTER COLUMN batch_state SET DEFAULT gen_random_uuid();

-- Whatever publishes rows says how many there are then, refreshers of an earlier release too.
CREATE FUNCTION sqlonfhir_meta.another_batch_state() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.batch_state := gen_random_uuid();
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION sqlonfhir_meta.another_batch_state() FROM PUBLIC;
CREATE TRIGGER another_batch_state BEFORE UPDATE OF row_count ON sqlonfhir_meta.view
    FOR EACH ROW EXECUTE FUNCTION sqlonfhir_meta.another_batch_state();
