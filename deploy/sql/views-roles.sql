-- Who may do what in the views' database. Run in that database by psql, as a superuser, before batch-refresher starts for the first time; it can be run again:
--
--   psql --dbname=views --set=owner=refresher --set=gateway=gateway --set=analyst=analyst --file=deploy/sql/views-roles.sql
--
-- The logins are made before. What each is for:
--   owner     batch-refresher; owns the database and the schemas sqlonfhir*
--   gateway   serving-gateway: a member of researchflow_merger, which applies live changes and answers questions
--   analyst   people, BI tools, and statements of the gateway's callers (sql.url): a member of researchflow_reader, which reads views. Make more of them as you like
-- Rights on schemas, tables and views are granted by batch-refresher, at each start. This file takes away what PostgreSQL lets every login do.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SELECT current_database() AS database \gset

SELECT format('CREATE ROLE %I NOLOGIN', name) FROM unnest(ARRAY['researchflow_merger', 'researchflow_reader']) name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
GRANT researchflow_merger TO :"gateway";
GRANT researchflow_reader TO :"analyst";

-- A forgotten open transaction of a person would hold back the views' changes of shape for ever; and a statement may fill no disk.
ALTER ROLE :"analyst" SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE :"analyst" SET temp_file_limit = '2GB';

BEGIN;

-- Temporary tables, and other people's logins.
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO researchflow_merger, researchflow_reader, :"owner";
GRANT CREATE, TEMPORARY ON DATABASE :"database" TO :"owner";
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Code of their own.
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO :"owner";

-- Functions of PostgreSQL that leave something behind though nothing was granted: large objects, locks (those of refreshes and mergers are such ones, and who
-- holds them stops both), records of the log, snapshots that keep old rows alive.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure) FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
  AND proname ~ '^(lo_.*|loread|lowrite|pg_(try_)?advisory_(xact_)?lock(_shared)?|pg_notify|pg_export_snapshot|pg_logical_emit_message)$' \gexec
SELECT format('GRANT EXECUTE ON FUNCTION %s TO researchflow_merger, %I', oid::regprocedure, :'owner') FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '^pg_(try_)?advisory_(xact_)?lock(_shared)?$' \gexec

COMMIT;

-- What PostgreSQL takes from nobody: a login may change its own password and its own settings, tell NOTIFY, and, where max_prepared_transactions is not 0 (the
-- default), leave a prepared transaction behind, which keeps a view from being replaced.
