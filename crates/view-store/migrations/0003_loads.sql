-- Loads of full and joining runs: what they have staged lies in tables named by the load, so that a run which was broken off can be gone on
-- with, and several replicas can share one.

CREATE SCHEMA IF NOT EXISTS sqlonfhir_stage;

-- The session of the run that a load belongs to holds an advisory lock on the token; a load whose lock is free is nobody's.
CREATE TABLE sqlonfhir_meta.load (
    token bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    type text COLLATE "C" NOT NULL,
    -- What is loaded, and by which release: only a run that would load the very same goes on with it.
    plan text NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The reading before the load (rule 12), and whether its ranges are written down.
    first_n bigint,
    first_as_of timestamptz,
    first_bound timestamptz,
    first_xmin bigint,
    first_timeline text
);

-- A range is being loaded by whoever holds its row's lock; it is done in the transaction that loads it.
CREATE TABLE sqlonfhir_meta.load_range (
    token bigint NOT NULL REFERENCES sqlonfhir_meta.load ON DELETE CASCADE,
    ordinal integer NOT NULL,
    from_id bigint,
    to_id bigint,
    done boolean NOT NULL DEFAULT false,
    resources bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (token, ordinal)
);
