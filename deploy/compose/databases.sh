#!/bin/sh
# Databases, logins and their least rights, over an empty server: by PostgreSQL's image (as docker-entrypoint-initdb.d), or by hand with psql's variables set to an
# administrator and RESEARCHFLOW_SQL to the folder deploy/sql. What each login is for:
#   hapi       owns HAPI's database
#   refresher  reads some of HAPI's tables and nothing else there; owns the views' database
#   gateway    a member of researchflow_merger: applies live changes, answers questions
#   analyst    a member of researchflow_reader: reads views; for statements of the gateway, for psql and BI tools
set -eu

: "${HAPI_DB_PASSWORD:?}" "${REFRESHER_PASSWORD:?}" "${GATEWAY_PASSWORD:?}" "${ANALYST_PASSWORD:?}"
sql="${RESEARCHFLOW_SQL:-/opt/researchflow/sql}"

as_administrator() {
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" "$@"
}

as_administrator --dbname postgres <<'SQL'
\getenv hapi HAPI_DB_PASSWORD
\getenv refresher REFRESHER_PASSWORD
\getenv gateway GATEWAY_PASSWORD
\getenv analyst ANALYST_PASSWORD
CREATE ROLE hapi LOGIN PASSWORD :'hapi';
CREATE ROLE refresher LOGIN PASSWORD :'refresher';
CREATE ROLE gateway LOGIN PASSWORD :'gateway';
CREATE ROLE analyst LOGIN PASSWORD :'analyst';
CREATE DATABASE hapi OWNER hapi;
CREATE DATABASE views OWNER refresher;
-- Nobody has business in a database that is not named here.
REVOKE ALL ON DATABASE hapi FROM PUBLIC;
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
REVOKE ALL ON DATABASE template1 FROM PUBLIC;
\connect hapi
GRANT CREATE, USAGE ON SCHEMA public TO hapi;
SQL
# HAPI makes its tables when it first starts: those that are needed are granted as they are made.
as_administrator --dbname hapi --set=reader=refresher --set=hapi=hapi --file="$sql/hapi-reader.sql"
as_administrator --dbname views --set=owner=refresher --set=gateway=gateway --set=analyst=analyst --file="$sql/views-roles.sql"
