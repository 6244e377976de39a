//! What the login may do in HAPI's database beyond reading the tables that are needed: looked at once, at the start, told and counted.
//!
//! Rights that are missing end the start (see [`Schema`](super::Schema)); rights that are too many end nothing: the daemon writes nothing in any case, but who gets
//! hold of its password could. `deploy/sql/hapi-reader.sql` grants what is needed, and takes the rest away.

use sqlx::{PgConnection, Row as _};

use super::{Hapi, HapiError};

/// The tables that are read, as far as this HAPI has them.
pub(super) const TABLES: [&str; 9] = [
    "hfj_resource",
    "hfj_res_ver",
    "hfj_res_tag",
    "hfj_tag_def",
    "hfj_history_tag",
    "hfj_res_link",
    "hfj_partition",
    "hfj_forced_id",
    "hfj_res_ver_prov",
];

/// Rights that are not needed: names of tables, schemas, attributes and roles, never of people or resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Excess {
    /// By which something could be written or changed.
    pub writes: Vec<String>,
    /// By which something else could be read.
    pub reads: Vec<String>,
}

/// Attributes of the login, and rights on the database as a whole. Roles are counted whether or not they are inherited: the login may take them on.
const LOGIN: &str = "SELECT what FROM pg_roles r CROSS JOIN pg_database d CROSS JOIN LATERAL (VALUES
     (r.rolsuper, 'the attribute SUPERUSER'),
     (NOT r.rolsuper AND r.rolcreaterole, 'the attribute CREATEROLE'),
     (NOT r.rolsuper AND r.rolcreatedb, 'the attribute CREATEDB'),
     (NOT r.rolsuper AND r.rolreplication, 'the attribute REPLICATION'),
     (NOT r.rolsuper AND pg_has_role(r.oid, d.datdba, 'MEMBER'), 'the role of the database''s owner'),
     (NOT r.rolsuper AND has_database_privilege(r.oid, d.oid, 'CREATE'), 'CREATE on the database'),
     (NOT r.rolsuper AND current_setting('lo_compat_privileges')::boolean, 'every large object (lo_compat_privileges = on)')
 ) may (it, what) WHERE it AND r.rolname = current_user AND d.datname = current_database()";

/// Roles of PostgreSQL by which more can be written than was granted by name.
const ROLES: &str = "SELECT 'the role ' || rolname FROM pg_roles WHERE NOT $1 AND pg_has_role(current_user, oid, 'MEMBER')
 AND rolname IN ('pg_write_all_data', 'pg_write_server_files', 'pg_execute_server_program', 'pg_signal_backend', 'pg_maintain', 'pg_checkpoint')";

const SCHEMAS: &str = "SELECT 'CREATE on the schema ' || nspname FROM pg_namespace
 WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' AND has_schema_privilege(oid, 'CREATE')";

/// Tables and sequences: whether the login owns them or may write, and whether it may read.
const RELATIONS: &str = "SELECT c.relname::text,
     pg_has_role(c.relowner, 'MEMBER') OR CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'USAGE, UPDATE')
         ELSE has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') OR has_any_column_privilege(c.oid, 'INSERT, UPDATE, REFERENCES') END,
     c.relkind <> 'S' AND has_any_column_privilege(c.oid, 'SELECT')
 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND has_schema_privilege(n.oid, 'USAGE')
 ORDER BY 1";

impl Hapi {
    /// What the login may do that it need not.
    pub async fn excess(&self) -> Result<Excess, HapiError> {
        let mut connection = self.inner.pool.acquire().await.map_err(HapiError::of(LOOKING))?;
        find(&mut connection).await.map_err(HapiError::of(LOOKING))
    }
}

const LOOKING: &str = "looking at the login's rights";

async fn find(connection: &mut PgConnection) -> Result<Excess, sqlx::Error> {
    let mut writes: Vec<String> = sqlx::query_scalar(LOGIN).fetch_all(&mut *connection).await?;
    let all_powerful = writes.iter().any(|right| right.ends_with("SUPERUSER"));
    let roles: Vec<String> = sqlx::query_scalar(ROLES)
        .bind(all_powerful)
        .fetch_all(&mut *connection)
        .await?;
    writes.extend(roles);
    if all_powerful {
        // Everything else follows from that.
        return Ok(Excess {
            writes,
            reads: Vec::new(),
        });
    }
    let schemas: Vec<String> = sqlx::query_scalar(SCHEMAS).fetch_all(&mut *connection).await?;
    writes.extend(schemas);
    let mut reads = Vec::new();
    for row in sqlx::query(RELATIONS).fetch_all(connection).await? {
        let name: String = row.try_get(0)?;
        if row.try_get(1)? {
            writes.push(format!("writing to {name}"));
        } else if row.try_get(2)? && !TABLES.contains(&name.as_str()) {
            reads.push(format!("reading {name}"));
        }
    }
    Ok(Excess { writes, reads })
}
