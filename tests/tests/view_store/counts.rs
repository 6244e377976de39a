//! Counts, which remember how many of the batch's rows they counted: whatever happens to the rows, they are those of a fresh count.

use fhir_core::row::Cell;
use view_store::{Condition, Operator, Relation, RunKind, Select};

use super::fixture::{Fixture, WITH_UNIT, compare, deleted, observation};

/// Of both layers under each condition; asked twice, so that the second one goes by what the first one has left. (`select` holds each to a snapshot's own count.)
async fn counts(labs: &Fixture) -> anyhow::Result<Vec<[i64; 2]>> {
    let above = || compare("value", Operator::GreaterOrEqual, &["3"]);
    let conditions = [
        None,
        Some(above()),
        Some(Condition::Not(Box::new(above()))),
        Some(Condition::NoRowOfResource(Box::new(above()))),
        Some(Condition::ResourceId(vec!["a".into(), "b".into(), "e".into()])),
    ];
    let mut counts = Vec::new();
    for condition in conditions {
        let mut of_layers = [0; 2];
        let relations = [Relation::Merged("labs".into()), Relation::Batch("labs".into())];
        for (relation, counted) in relations.into_iter().zip(&mut of_layers) {
            let select = Select {
                condition: condition.clone(),
                count_only: true,
                ..Select::all(relation)
            };
            let rows = labs.select(&select).await?;
            assert_eq!(labs.select(&select).await?, rows);
            let [row] = rows.as_slice() else {
                anyhow::bail!("{} rows", rows.len())
            };
            match row.as_slice() {
                [Cell::BigInt(count)] => *counted = *count,
                other => anyhow::bail!("{} cells", other.len()),
            }
        }
        counts.push(of_layers);
    }
    Ok(counts)
}

#[tokio::test]
async fn counts_hold_whatever_batch_and_speed_layer_do() -> anyhow::Result<()> {
    let five = ["a", "b", "c", "d", "e"].map(|id| observation(id, 1, "3"));
    let labs = Fixture::with_labs(&five).await?;
    assert_eq!(counts(&labs).await?, [[5, 5], [5, 5], [0, 0], [0, 0], [3, 3]]);

    // Changed, deleted, and new, by the speed layer alone: what the batch has stays as it was counted.
    let live = [
        observation("a", 2, "1"),
        deleted("b", 2),
        observation("f", 1, "4"),
    ];
    labs.apply(2, &live).await?;
    let both = [[5, 5], [4, 5], [1, 0], [1, 0], [2, 3]];
    assert_eq!(counts(&labs).await?, both);

    // Behind what is live: only the batch's rows change.
    labs.apply(6, &[observation("c", 3, "1"), observation("d", 3, "8")])
        .await?;
    labs.publish(
        RunKind::Incremental,
        5,
        &[observation("c", 2, "2"), deleted("d", 2)],
    )
    .await?;
    assert_eq!(counts(&labs).await?, [[5, 4], [3, 3], [2, 1], [2, 1], [2, 3]]);

    // The batch takes all over, and goes on.
    let all = [
        observation("a", 2, "1"),
        observation("c", 3, "1"),
        observation("d", 3, "8"),
        observation("e", 1, "3"),
        observation("f", 1, "4"),
    ];
    labs.publish(RunKind::Full, 7, &all).await?;
    assert_eq!(counts(&labs).await?, [[5, 5], [3, 3], [2, 2], [2, 2], [2, 2]]);
    // As many rows as before, and other ones.
    labs.publish(RunKind::Incremental, 8, &[observation("a", 3, "3")])
        .await?;
    assert_eq!(counts(&labs).await?, [[5, 5], [4, 4], [1, 1], [1, 1], [2, 2]]);

    // Another definition, and the same one again after it was dropped, of other resources each time.
    labs.put("labs", WITH_UNIT).await?;
    labs.join(9, &five[..4]).await?;
    assert_eq!(counts(&labs).await?, [[4, 4], [4, 4], [0, 0], [0, 0], [2, 2]]);
    labs.store.drop_view("labs").await?;
    labs.put("labs", WITH_UNIT).await?;
    labs.join(10, &five[..2]).await?;
    assert_eq!(counts(&labs).await?, [[2, 2], [2, 2], [0, 0], [0, 0], [2, 2]]);
    Ok(())
}
