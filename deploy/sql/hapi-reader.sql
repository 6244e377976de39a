-- What batch-refresher's login may do in HAPI's database: read the tables that it needs, and nothing else. Run in that database by psql, as a superuser:
--
--   psql --dbname=hapi --set=reader=researchflow_source --file=deploy/sql/hapi-reader.sql
--
-- The login is made before (CREATE ROLE researchflow_source LOGIN PASSWORD '...'). The script can be run again at any time, and takes away what was granted beyond this.
-- As the owner of HAPI's database in place of a superuser: first have a superuser run GRANT pg_read_all_stats TO <login>; and run the script once more after each
-- upgrade of HAPI that makes a table anew.
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SELECT rolsuper AS is_superuser FROM pg_roles WHERE rolname = current_user \gset
SELECT current_database() AS database \gset

-- The tables, with those that only older releases of HAPI have.
CREATE TEMPORARY TABLE needed AS SELECT unnest(ARRAY[
    'hfj_resource', 'hfj_res_ver', 'hfj_res_tag', 'hfj_tag_def', 'hfj_history_tag', 'hfj_res_link', 'hfj_partition',
    'hfj_forced_id', 'hfj_res_ver_prov']) AS name;

BEGIN;

-- Without it the login does not see when others' transactions began, and late commits would be lost.
\if :is_superuser
    GRANT pg_read_all_stats TO :"reader";
\endif

GRANT CONNECT ON DATABASE :"database" TO :"reader";
-- Every login may make temporary tables in a database unless this is said: grant it to those who need it.
REVOKE TEMPORARY ON DATABASE :"database" FROM PUBLIC;
REVOKE CREATE, TEMPORARY ON DATABASE :"database" FROM :"reader";

-- What was granted before: rights on other tables and their columns, by name or by default.
SELECT format('REVOKE ALL ON TABLE %I.%I FROM %I', nspname, relname, :'reader')
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema'
  AND (EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = to_regrole(quote_ident(:'reader')))
    OR EXISTS (SELECT FROM pg_attribute, aclexplode(attacl) WHERE attrelid = c.oid AND grantee = to_regrole(quote_ident(:'reader')))) \gexec
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I %s REVOKE ALL ON TABLES FROM %I',
              pg_get_userbyid(defaclrole), 'IN SCHEMA ' || quote_ident(nspname), :'reader')
FROM pg_default_acl LEFT JOIN pg_namespace n ON n.oid = defaclnamespace
WHERE defaclobjtype = 'r' AND EXISTS (SELECT FROM aclexplode(defaclacl) WHERE grantee = to_regrole(quote_ident(:'reader'))) \gexec

SELECT format('GRANT USAGE ON SCHEMA %1$I TO %3$I; GRANT SELECT ON TABLE %1$I.%2$I TO %3$I', nspname, relname, :'reader')
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND relname IN (SELECT name FROM needed) \gexec

-- Tables that HAPI makes later, at its first start or in an upgrade, are granted as it makes them. HAPI's own login does it, as their owner.
\if :is_superuser
    DROP EVENT TRIGGER IF EXISTS researchflow_reader;
    CREATE SCHEMA IF NOT EXISTS researchflow_rights;
    SELECT format($made$
        CREATE OR REPLACE FUNCTION researchflow_rights.grant_to_reader() RETURNS event_trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $body$
        DECLARE
            made record;
        BEGIN
            FOR made IN SELECT n.nspname, c.relname FROM pg_event_trigger_ddl_commands() d JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.relname = ANY (%L::text[])
            LOOP
                EXECUTE format('GRANT SELECT ON TABLE %%I.%%I TO %%I', made.nspname, made.relname, %L);
            END LOOP;
        END
        $body$ $made$, (SELECT array_agg(name) FROM needed), :'reader') \gexec
    CREATE EVENT TRIGGER researchflow_reader ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION researchflow_rights.grant_to_reader();
    GRANT USAGE ON SCHEMA public TO :"reader";
\endif

-- Blocks of code, large objects, locks, messages and records of the log need no right by PostgreSQL's defaults. With --set=hapi=<HAPI's login> they are kept to HAPI:
-- leave it out where other logins work in this database.
\if :{?hapi}
    REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
    GRANT USAGE ON LANGUAGE plpgsql TO :"hapi";
    SELECT format('REVOKE EXECUTE ON FUNCTION %1$s FROM PUBLIC; GRANT EXECUTE ON FUNCTION %1$s TO %2$I', oid::regprocedure, :'hapi') FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace
      AND proname ~ '^(lo_.*|loread|lowrite|pg_(try_)?advisory_(xact_)?lock(_shared)?|pg_notify|pg_export_snapshot|pg_logical_emit_message)$' \gexec
    -- Bodies that lie in large objects.
    GRANT EXECUTE ON FUNCTION lo_get(oid), pg_export_snapshot() TO :"reader";
\endif

COMMIT;
DROP TABLE needed;

-- Where bodies lie in large objects (versions that were written before HAPI 7), each of them must be granted, too: with --set=large_objects=1. New ones are not
-- made. (lo_compat_privileges = on would do as well, and would let the login write them: batch-refresher warns of it.)
\if :{?large_objects}
    SELECT format('GRANT SELECT ON LARGE OBJECT %s TO %I', oid, :'reader') FROM pg_largeobject_metadata \gexec
\endif
