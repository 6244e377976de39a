-- What the schedules of all replicas go by, beside the watermark. Times are those of HAPI's clock, as the watermark is.
CREATE TABLE sqlonfhir_meta.schedule (
    type text COLLATE "C" PRIMARY KEY,
    -- When the last run that compared everything began, and how many resources it found to differ though nothing had told so before (null: it had nothing to
    -- compare with).
    reconciled_as_of timestamptz,
    differences bigint,
    -- Scheduled times up to these were cancelled: they are not made up for.
    refresh_skipped timestamptz,
    reconciliation_skipped timestamptz
);
