-- What the merge protocol keeps beside the view tables (docs/protocol.md). The tables of each view are made when it joins.

CREATE SCHEMA IF NOT EXISTS sqlonfhir;
CREATE SCHEMA IF NOT EXISTS sqlonfhir_batch;
CREATE SCHEMA IF NOT EXISTS sqlonfhir_base;
CREATE SCHEMA IF NOT EXISTS sqlonfhir_live;
CREATE SCHEMA IF NOT EXISTS sqlonfhir_shadowed;

-- Rule 2: one row; its lock orders the numbers of readings as their snapshots.
CREATE TABLE sqlonfhir_meta.reading (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    n bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO sqlonfhir_meta.reading (n) VALUES (0);

-- One row: moves with every change of the registry, so that watchers poll one number.
CREATE TABLE sqlonfhir_meta.registry (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    generation bigint NOT NULL
);
INSERT INTO sqlonfhir_meta.registry (generation) VALUES (1);

-- Per type: the last mark applied (speed), the batch's watermark (published), the newest run that has published a slice (newest).
CREATE TABLE sqlonfhir_meta.resource_type (
    type text COLLATE "C" PRIMARY KEY,
    generation bigint NOT NULL DEFAULT 1,
    speed_n bigint,
    speed_as_of timestamptz,
    published_n bigint,
    published_as_of timestamptz,
    published_bound timestamptz,
    published_xmin bigint,
    published_timeline text,
    newest bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE sqlonfhir_meta.view (
    name text COLLATE "C" PRIMARY KEY,
    url text,
    resource_type text COLLATE "C" NOT NULL,
    definition text NOT NULL,
    hash text NOT NULL,
    state text NOT NULL CHECK (state IN ('creating', 'populating', 'active', 'stale', 'error')),
    reason text,
    -- Rows of base and shadowed; kept by each slice.
    row_count bigint,
    -- A definition that is to replace the present one with the next joining run.
    pending_definition text,
    pending_hash text,
    pending_url text,
    -- The public views lack columns that the tables have already: a reader held them when the definition was replaced.
    public_outdated boolean NOT NULL DEFAULT false
);

-- The state shown of an id that is live, or that the last run published; also of one without rows.
CREATE TABLE sqlonfhir_meta.ledger (
    type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    n bigint NOT NULL,
    version bigint NOT NULL,
    layer text NOT NULL CHECK (layer IN ('live', 'batch')),
    received timestamptz,
    PRIMARY KEY (type, id)
);
CREATE INDEX ledger_live ON sqlonfhir_meta.ledger (type, id) WHERE layer = 'live';
CREATE INDEX ledger_previews ON sqlonfhir_meta.ledger (type, id) WHERE received IS NOT NULL;

-- Shown states that cannot be evaluated for a view: they have no rows in it.
CREATE TABLE sqlonfhir_meta.error (
    view text COLLATE "C" NOT NULL,
    resource_type text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (view, id)
);

-- Live rows are few, so counting is cheap. Readers may not see the live table: hence the definer's rights, for a count alone.
CREATE FUNCTION sqlonfhir_meta.live_rows(view_name text) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    counted bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM sqlonfhir_meta.view WHERE name = view_name AND state IN ('active', 'stale')) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) FROM sqlonfhir_live.%I', view_name) INTO counted;
    RETURN counted;
END
$$;
REVOKE ALL ON FUNCTION sqlonfhir_meta.live_rows(text) FROM PUBLIC;

CREATE VIEW sqlonfhir.freshness AS
SELECT v.name AS view,
       v.resource_type,
       v.state,
       m.batch_as_of,
       m.speed_as_of,
       greatest(m.batch_as_of, m.speed_as_of) AS as_of,
       CASE WHEN m.materialised THEN v.row_count END AS batch_rows,
       sqlonfhir_meta.live_rows(v.name) AS live_rows,
       (SELECT count(*) FROM sqlonfhir_meta.error e WHERE e.view = v.name) AS evaluation_errors,
       v.reason
FROM sqlonfhir_meta.view v
LEFT JOIN sqlonfhir_meta.resource_type t ON t.type = v.resource_type
CROSS JOIN LATERAL (
    SELECT v.state IN ('active', 'stale') AS materialised,
           CASE WHEN v.state IN ('active', 'stale') THEN t.published_as_of END AS batch_as_of,
           CASE WHEN v.state IN ('active', 'stale') THEN t.speed_as_of END AS speed_as_of
) m
ORDER BY v.name;
COMMENT ON VIEW sqlonfhir.freshness IS 'How fresh each view is: everything committed to the FHIR server before as_of is in the merged view, before batch_as_of in the batch-only view.';

CREATE VIEW sqlonfhir.errors AS
SELECT view, resource_type, id, version, reason, at FROM sqlonfhir_meta.error;
COMMENT ON VIEW sqlonfhir.errors IS 'Resources whose shown version cannot be evaluated for a view; they have no rows in it.';
