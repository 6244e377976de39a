#!/bin/sh
# Databases, logins and their least rights, over an empty server: by PostgreSQL's image (as docker-entrypoint-initdb.d), or by hand with psql's variables set to an
# administrator. What each login is for:
#   hapi       owns HAPI's database
#   refresher  reads HAPI's tables and nothing else there; owns the views' database
#   gateway    a member of researchflow_merger: applies live changes, answers questions
#   analyst    a member of researchflow_reader: reads views; for statements of the gateway, for psql and BI tools
set -eu

: "${HAPI_DB_PASSWORD:?}" "${REFRESHER_PASSWORD:?}" "${GATEWAY_PASSWORD:?}" "${ANALYST_PASSWORD:?}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv hapi HAPI_DB_PASSWORD
\getenv refresher REFRESHER_PASSWORD
\getenv gateway GATEWAY_PASSWORD
\getenv analyst ANALYST_PASSWORD
CREATE ROLE hapi LOGIN PASSWORD :'hapi';
CREATE ROLE refresher LOGIN PASSWORD :'refresher';
CREATE ROLE gateway LOGIN PASSWORD :'gateway';
CREATE ROLE analyst LOGIN PASSWORD :'analyst';
CREATE ROLE researchflow_merger NOLOGIN;
CREATE ROLE researchflow_reader NOLOGIN;
GRANT researchflow_merger TO gateway;
GRANT researchflow_reader TO analyst;
-- The watermark needs the start of others' transactions.
GRANT pg_read_all_stats TO refresher;
-- A forgotten open transaction of a person would hold back the views' changes of shape for ever.
ALTER ROLE analyst SET idle_in_transaction_session_timeout = '60s';
CREATE DATABASE hapi OWNER hapi;
CREATE DATABASE views OWNER refresher;
REVOKE ALL ON DATABASE hapi FROM PUBLIC;
GRANT CONNECT ON DATABASE hapi TO refresher;
REVOKE ALL ON DATABASE views FROM PUBLIC;
GRANT CONNECT ON DATABASE views TO gateway, analyst;
\connect hapi
-- HAPI makes its tables when it first starts.
GRANT CREATE, USAGE ON SCHEMA public TO hapi;
GRANT USAGE ON SCHEMA public TO refresher;
ALTER DEFAULT PRIVILEGES FOR ROLE hapi IN SCHEMA public GRANT SELECT ON TABLES TO refresher;
SQL
