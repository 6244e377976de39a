//! Definitions come, are replaced, and go.

use std::time::Instant;

use fhir_core::view::CompiledView;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{PutOutcome, ViewState, bump_registry, bump_type, ensure_type, unknown_view};
use crate::driver::sqlstate;
use crate::error::during;
use crate::{StoreError, ViewStore, locks, tables};

/// What the registry holds of one view, for replacing it.
#[derive(Debug, sqlx::FromRow)]
struct Existing {
    resource_type: String,
    definition: String,
    hash: String,
    state: String,
    pending_hash: Option<String>,
}

/// Something else may stand where a view's tables would (an index `patient_pkey` of the view `patient`): then it could never be populated.
async fn refuse_taken(connection: &mut PgConnection, name: &str) -> Result<(), StoreError> {
    let taken: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = $1 AND \
         (n.nspname IN ('sqlonfhir_base', 'sqlonfhir_live', 'sqlonfhir_shadowed') AND c.relkind <> 'r' \
          OR n.nspname IN ('sqlonfhir', 'sqlonfhir_batch')))",
    )
    .bind(name)
    .fetch_one(connection)
    .await
    .map_err(during("registering a view"))?;
    if taken {
        return Err(StoreError::InvalidDefinition(format!(
            "something else in the views' database is called {name}; choose another name for the view"
        )));
    }
    Ok(())
}

impl ViewStore {
    /// Registers a definition (already compiled by the caller, who keeps the text). `force` allows dropped and retyped columns: the view, and what
    /// others have built on it, is then dropped at once and created anew with the next joining run; meanwhile it is not materialised.
    pub async fn put_view(
        &self,
        view: &CompiledView,
        definition: &str,
        force: bool,
    ) -> Result<PutOutcome, StoreError> {
        tables::refuse_impossible(view, definition)?;
        let hash = hex(&Sha256::digest(definition.as_bytes()));
        let deadline = locks::patience();
        loop {
            match self.try_put_view(view, definition, &hash, force).await {
                Err(StoreError::Database { transient: true, .. }) if force && Instant::now() < deadline => {
                    tokio::time::sleep(locks::EXCLUSIVE_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn try_put_view(
        &self,
        view: &CompiledView,
        definition: &str,
        hash: &str,
        force: bool,
    ) -> Result<PutOutcome, StoreError> {
        let doing = during("registering a view");
        let mut transaction = self.begin().await?;
        locks::lock_registry(&mut transaction).await?;
        let existing: Option<Existing> = sqlx::query_as(
            "SELECT resource_type, definition, hash, state, pending_hash FROM sqlonfhir_meta.view WHERE name = $1",
        )
        .bind(view.name())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(doing)?;

        let outcome = match existing {
            None => {
                refuse_taken(&mut transaction, view.name()).await?;
                PutOutcome::Created
            }
            Some(existing) => {
                let materialised = ViewState::from_column(&existing.state)?.is_materialised();
                if existing.pending_hash.as_deref().unwrap_or(&existing.hash) == hash {
                    return Ok(PutOutcome::Unchanged);
                }
                if !materialised {
                    PutOutcome::Created
                } else if existing.hash == hash {
                    // Back to what is shown: the replacement that waits is called off.
                    sqlx::query(
                        "UPDATE sqlonfhir_meta.view SET pending_definition = NULL, pending_hash = NULL, pending_url = NULL, \
                         state = 'active', reason = NULL WHERE name = $1",
                    )
                    .bind(view.name())
                    .execute(&mut *transaction)
                    .await
                    .map_err(doing)?;
                    PutOutcome::Unchanged
                } else {
                    match self.incompatibility(view, &existing) {
                        None => PutOutcome::Replacing,
                        Some(reason) if !force => return Err(StoreError::Incompatible(reason)),
                        Some(_) => {
                            self.drop_within(&mut transaction, view.name(), &existing.resource_type, true)
                                .await?;
                            PutOutcome::Created
                        }
                    }
                }
            }
        };
        match outcome {
            PutOutcome::Unchanged => {}
            PutOutcome::Created => {
                sqlx::query(
                    "INSERT INTO sqlonfhir_meta.view (name, url, resource_type, definition, hash, state) \
                     VALUES ($1, $2, $3, $4, $5, 'creating') ON CONFLICT (name) DO UPDATE SET url = excluded.url, \
                     resource_type = excluded.resource_type, definition = excluded.definition, hash = excluded.hash, \
                     state = 'creating', reason = NULL, row_count = NULL",
                )
                .bind(view.name())
                .bind(view.url())
                .bind(view.resource_type())
                .bind(definition)
                .bind(hash)
                .execute(&mut *transaction)
                .await
                .map_err(doing)?;
                ensure_type(&mut transaction, view.resource_type()).await?;
            }
            PutOutcome::Replacing => {
                sqlx::query(
                    "UPDATE sqlonfhir_meta.view SET pending_definition = $2, pending_hash = $3, pending_url = $4 WHERE name = $1",
                )
                .bind(view.name())
                .bind(definition)
                .bind(hash)
                .bind(view.url())
                .execute(&mut *transaction)
                .await
                .map_err(doing)?;
            }
        }
        bump_registry(&mut transaction).await?;
        transaction.commit().await.map_err(doing)?;
        Ok(outcome)
    }

    /// Why a definition cannot take the place of a materialised one with its columns, if it cannot.
    fn incompatibility(&self, view: &CompiledView, existing: &Existing) -> Option<String> {
        let advice =
            "give the view a new name, or force the replacement, which drops what others have built on it";
        if existing.resource_type != view.resource_type() {
            return Some(format!(
                "view {} is over {}, the new definition over {}; {advice}",
                view.name(),
                existing.resource_type,
                view.resource_type()
            ));
        }
        let Ok(old) = self
            .cache
            .compiled(view.name(), &existing.hash, &existing.definition)
        else {
            return Some(format!(
                "the present definition of view {} cannot be read by this release; {advice}",
                view.name()
            ));
        };
        let broken: Vec<String> = old
            .columns()
            .iter()
            .filter_map(
                |column| match view.columns().iter().find(|c| c.name == column.name) {
                    None => Some(format!("column {} is dropped", column.name)),
                    Some(new) if new.sql_type() != column.sql_type() => Some(format!(
                        "column {} changes from {} to {}",
                        column.name,
                        column.sql_type(),
                        new.sql_type()
                    )),
                    Some(_) => None,
                },
            )
            .collect();
        (!broken.is_empty()).then(|| {
            format!(
                "the new definition of view {} does not fit: {}; {advice}",
                view.name(),
                broken.join(", ")
            )
        })
    }

    /// Drops a view and its tables. Refused while others' views are built on it.
    pub async fn drop_view(&self, name: &str) -> Result<(), StoreError> {
        let deadline = locks::patience();
        loop {
            match self.try_drop_view(name).await {
                // A reader holds the view: let it finish.
                Err(StoreError::Database { transient: true, .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(locks::EXCLUSIVE_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    async fn try_drop_view(&self, name: &str) -> Result<(), StoreError> {
        let doing = during("dropping a view");
        let mut transaction = self.begin().await?;
        locks::lock_registry(&mut transaction).await?;
        let resource_type: Option<String> =
            sqlx::query_scalar("SELECT resource_type FROM sqlonfhir_meta.view WHERE name = $1")
                .bind(name)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(doing)?;
        let Some(resource_type) = resource_type else {
            return Err(unknown_view(&mut transaction, name).await);
        };
        self.drop_within(&mut transaction, name, &resource_type, false)
            .await?;
        bump_registry(&mut transaction).await?;
        transaction.commit().await.map_err(doing)
    }

    /// Under the type's lock and with a short `lock_timeout`: tables and public views go, the registry's row with its errors, the generation moves.
    async fn drop_within(
        &self,
        connection: &mut PgConnection,
        name: &str,
        resource_type: &str,
        cascade: bool,
    ) -> Result<(), StoreError> {
        let doing = during("dropping a view");
        tables::execute(
            connection,
            format!("SET LOCAL lock_timeout = '{}'", locks::EXCLUSIVE_WAIT),
            "dropping a view",
        )
        .await?;
        locks::lock_type(connection, resource_type).await?;
        tables::drop_all(connection, name, cascade)
            .await
            .map_err(|error| match sqlstate(&error).as_deref() {
                Some("2BP01") => StoreError::Incompatible(format!(
                    "view {name} cannot be dropped: other database objects are built on it; drop these first"
                )),
                _ => doing(error),
            })?;
        for delete in [
            "DELETE FROM sqlonfhir_meta.error WHERE view = $1",
            "DELETE FROM sqlonfhir_meta.view WHERE name = $1",
        ] {
            sqlx::query(delete)
                .bind(name)
                .execute(&mut *connection)
                .await
                .map_err(doing)?;
        }
        bump_type(connection, resource_type).await
    }

    /// Public views that a reader held when their definition was replaced get their new columns.
    pub(crate) async fn repair_public_views(&self) -> Result<(), StoreError> {
        let doing = during("replacing a public view");
        let outdated: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT name, hash, definition FROM sqlonfhir_meta.view WHERE public_outdated AND state IN ('active', 'stale')",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(doing)?;
        for (name, hash, definition) in outdated {
            let view = self.cache.compiled(&name, &hash, &definition)?;
            let deadline = locks::patience();
            while let Err(error) = self.replace_public_view(&view).await {
                let locked = matches!(&error, StoreError::Database { transient: true, .. });
                if !locked || Instant::now() >= deadline {
                    return Err(error);
                }
                tokio::time::sleep(locks::EXCLUSIVE_PAUSE).await;
            }
        }
        Ok(())
    }

    async fn replace_public_view(&self, view: &CompiledView) -> Result<(), StoreError> {
        let doing = during("replacing a public view");
        let mut transaction = self.begin().await?;
        let timeout = format!("SET LOCAL lock_timeout = '{}'", locks::EXCLUSIVE_WAIT);
        sqlx::raw_sql(AssertSqlSafe(timeout))
            .execute(&mut *transaction)
            .await
            .map_err(doing)?;
        // PostgreSQL only appends to a view: the old columns keep their places.
        let mut columns = tables::public_columns(&mut transaction, view.name()).await?;
        let added: Vec<String> = view
            .columns()
            .iter()
            .map(|c| c.name.clone())
            .filter(|name| !columns.contains(name))
            .collect();
        columns.extend(added);
        tables::create_public_views(&mut transaction, view, &columns)
            .await
            .map_err(doing)?;
        sqlx::query("UPDATE sqlonfhir_meta.view SET public_outdated = false WHERE name = $1")
            .bind(view.name())
            .execute(&mut *transaction)
            .await
            .map_err(doing)?;
        transaction.commit().await.map_err(doing)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
