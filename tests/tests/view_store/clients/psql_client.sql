-- Two reads of a person with psql; run again and again over one session, which is what \watch does. Wanted of this client: no error (ON_ERROR_STOP is set), rows that are
-- whole, and an answer that stays as it is while it is paged through, whatever changes meanwhile.

-- Through a cursor of one's own.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
DECLARE readings NO SCROLL CURSOR FOR SELECT id, version, part, parts, value, issued, critical, note FROM sqlonfhir.readings ORDER BY id, part;
FETCH FORWARD 60 FROM readings;
FETCH FORWARD 60 FROM readings;
FETCH ALL FROM readings;
\echo views differ by
SELECT count(*) FROM (SELECT id, version FROM sqlonfhir.readings WHERE critical AND part = 1) r FULL JOIN sqlonfhir.critical c USING (id, version)
WHERE r.id IS NULL OR c.id IS NULL;
COMMIT;
\echo read

-- Through psql's cursor: without it psql holds all rows in memory.
\set FETCH_COUNT 50
SELECT id, version, part, parts, value, issued, critical, note FROM sqlonfhir.readings ORDER BY id, part;
\unset FETCH_COUNT
\echo views differ by
SELECT count(*) FROM (SELECT id, version FROM sqlonfhir.readings WHERE critical AND part = 1) r FULL JOIN sqlonfhir.critical c USING (id, version)
WHERE r.id IS NULL OR c.id IS NULL;
\echo read
