//! New versions of resources, written as HAPI writes them.

use sqlx::{Connection as _, PgConnection};

/// Resources that HAPI's transaction changes.
const TRANSACTION: usize = 100;

/// Writes the next version of so many resources, evenly spread over the table; each round takes others.
pub(crate) async fn change(url: &str, resources: u64, changes: u64, round: u64) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let width = resources / changes;
    let ids: Vec<i64> = (0..changes)
        .map(|i| (i * width + round % width + 1).cast_signed())
        .collect();
    for ids in ids.chunks(TRANSACTION) {
        let mut transaction = connection.begin().await?;
        // HAPI takes its time before it begins to write, in milliseconds.
        sqlx::query(
            "UPDATE hfj_resource SET res_ver = res_ver + 1, res_updated = date_trunc('milliseconds', now() AT TIME ZONE 'UTC') \
             WHERE res_id = ANY ($1)",
        )
        .bind(ids)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO hfj_res_ver (pid, res_id, res_type, res_type_id, res_ver, res_version, has_tags, res_published, res_updated, res_encoding, \
               request_id, res_text_vc) \
             SELECT (SELECT max(pid) FROM hfj_res_ver) + row_number() OVER (), v.res_id, v.res_type, v.res_type_id, r.res_ver, v.res_version, v.has_tags, \
               v.res_published, r.res_updated, v.res_encoding, v.request_id, \
               CASE WHEN v.res_text_vc LIKE '%\"status\":\"final\"%' THEN replace(v.res_text_vc, '\"status\":\"final\"', '\"status\":\"amended\"') \
                    ELSE replace(v.res_text_vc, '\"status\":\"amended\"', '\"status\":\"final\"') END \
             FROM hfj_resource r JOIN hfj_res_ver v ON v.res_id = r.res_id AND v.res_ver = r.res_ver - 1 WHERE r.res_id = ANY ($1)",
        )
        .bind(ids)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
    }
    Ok(connection.close().await?)
}
