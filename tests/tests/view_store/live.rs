//! Live changes: readings and previews of the speed layer, over what the batch has published.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use fhir_core::resource::{Content, State};
use view_store::{LastPage, ReadingAt, ReceivedPreview, RunKind, StoreError};

use super::fixture::{
    Fixture, OBSERVATION, PLAN, at, deleted, evaluated, mark, observation, position, stage,
};

#[tokio::test]
async fn law_1_the_latest_reading_wins_and_law_4_the_batch_takes_over() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1.0"), observation("b", 1, "2.50")]).await?;
    assert_eq!(labs.merged().await?, "a=1.0 b=2.50");

    // An update, a deletion and a new one, by a reading.
    assert_eq!(
        labs.apply(
            2,
            &[
                observation("a", 2, "1.1"),
                deleted("b", 2),
                observation("c", 1, "3")
            ]
        )
        .await?,
        3
    );
    assert_eq!(labs.merged().await?, "a=1.1 c=3");
    assert_eq!(labs.batch_only().await?, "a=1.0 b=2.50");
    assert_eq!(labs.layers().await?, (0, 2, 2));
    assert_eq!(labs.store.known_version(OBSERVATION, "b").await?.0, 2);

    // Late and repeated: an older reading of a later version changes nothing, a later reading of an older version does (HAPI went back).
    assert_eq!(labs.apply(2, &[observation("a", 9, "9")]).await?, 0);
    assert_eq!(labs.apply(3, &[observation("a", 1, "1.05")]).await?, 1);
    assert_eq!(labs.merged().await?, "a=1.05 c=3");

    // The hand-over: nothing lives any more, the answer is the same.
    labs.publish(
        RunKind::Incremental,
        4,
        &[
            observation("a", 1, "1.05"),
            deleted("b", 2),
            observation("c", 1, "3"),
        ],
    )
    .await?;
    assert_eq!(labs.merged().await?, "a=1.05 c=3");
    assert_eq!(labs.batch_only().await?, "a=1.05 c=3");
    assert_eq!(labs.layers().await?, (2, 0, 0));
    let state = labs.store.type_state(OBSERVATION).await?;
    assert_eq!(
        (state.published, state.speed, state.newest),
        (Some(position(4)), Some(mark(3)), 4)
    );
    assert_eq!(labs.store.views().await?[0].row_count, Some(2));

    // What the batch has read is not outranked by what was read before.
    assert_eq!(labs.apply(4, &[observation("c", 1, "0")]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn rows_that_are_too_many_for_one_statement_are_shown_with_the_rest_of_their_page() -> anyhow::Result<()>
{
    let labs = Fixture::with_labs(&[observation("a", 1, "1"), observation("b", 1, "2")]).await?;
    let large = |id: &str, version, value: &str| {
        let mut state = observation(id, version, value);
        if let Content::Body(body) = &mut state.content {
            let text = String::from_utf8_lossy(body).replace("final", &"x".repeat(2_200_000));
            *body = text.into_bytes();
        }
        state
    };
    // 4.4 MB of rows beside a deletion.
    let page = [large("a", 2, "1.5"), deleted("b", 2), large("c", 1, "3")];
    assert_eq!(labs.apply(2, &page).await?, 3);
    assert_eq!(labs.merged().await?, "a=1.5 c=3");
    assert_eq!(labs.batch_only().await?, "a=1 b=2");
    assert_eq!(labs.layers().await?, (0, 2, 2));
    assert_eq!(labs.store.type_state(OBSERVATION).await?.speed, Some(mark(2)));
    // And as large ones they go again.
    assert_eq!(
        labs.apply(3, &[observation("a", 3, "1.6"), large("c", 2, "4")])
            .await?,
        2
    );
    assert_eq!(labs.merged().await?, "a=1.6 c=4");
    Ok(())
}

#[tokio::test]
async fn previews_are_shown_until_a_reading_confirms_or_corrects_them() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    // Dated before all that the batch has read, and not higher: no.
    assert_eq!(labs.preview(&observation("a", 2, "2"), 5).await?, 0);
    let fresh = State {
        last_updated: at(30),
        ..observation("a", 2, "2")
    };
    assert_eq!(labs.preview(&fresh, 31).await?, 1);
    assert_eq!(labs.preview(&fresh, 32).await?, 0);
    assert_eq!(labs.merged().await?, "a=2");
    let (drawn, ()) = labs
        .store
        .draw_number::<(), StoreError, _>(&["Patient", OBSERVATION], async || Ok(()))
        .await?;
    assert_eq!(
        (drawn.n, drawn.shown_previews),
        (1, vec![vec![], vec!["a".to_owned()]])
    );
    assert_eq!(drawn.published, [None, Some(position(1))]);

    // A reading from before its receipt may not have seen it; one from after has.
    assert_eq!(labs.apply(2, &[observation("a", 1, "1")]).await?, 0);
    assert_eq!(labs.merged().await?, "a=2");
    assert_eq!(labs.apply(4, &[observation("a", 1, "1")]).await?, 1);
    assert_eq!(labs.merged().await?, "a=1");
    Ok(())
}

#[tokio::test]
async fn readings_and_previews_of_one_answer_are_applied_one_after_the_other() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[]).await?;
    let views = labs.views().await?;
    let reading = ReadingAt {
        state: evaluated(&views, &observation("a", 1, "1")),
        n: 2,
        as_of: at(20),
    };
    let preview = |version: i64, value, received| ReceivedPreview {
        state: evaluated(
            &views,
            &State {
                last_updated: at(40 + version),
                ..observation("a", version, value)
            },
        ),
        received: at(received),
    };
    let previews = vec![preview(3, "3", 50), preview(2, "2", 51), preview(4, "4", 52)];
    let page = labs
        .store
        .apply_page(
            &views,
            None,
            &[reading],
            Some(&LastPage {
                previews,
                mark: Some(mark(2)),
            }),
        )
        .await?;
    let page = page.context("the cursor has not moved")?;
    assert_eq!((page.readings, page.previews), (1, 2));
    assert_eq!(labs.merged().await?, "a=4");
    let entry: (i64, i64, String, DateTime<Utc>) =
        sqlx::query_as("SELECT n, version, layer, received FROM sqlonfhir_meta.ledger")
            .fetch_one(&mut labs.connect().await?)
            .await?;
    assert_eq!(entry, (2, 4, "live".into(), at(52)));
    Ok(())
}

#[tokio::test]
async fn a_cursor_that_has_moved_is_not_moved_again() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[]).await?;
    let views = labs.views().await?;
    let last = LastPage {
        previews: vec![],
        mark: Some(mark(2)),
    };
    assert!(
        labs.store
            .apply_page(&views, None, &[], Some(&last))
            .await?
            .is_some()
    );
    assert!(
        labs.store
            .apply_page(&views, None, &[], Some(&last))
            .await?
            .is_none()
    );
    labs.store
        .apply_marks(&[
            (OBSERVATION.into(), None, mark(9)),
            ("Patient".into(), None, mark(9)),
        ])
        .await?;
    assert_eq!(labs.store.type_state(OBSERVATION).await?.speed, Some(mark(2)));
    labs.store
        .apply_marks(&[(OBSERVATION.into(), Some(mark(2)), mark(9))])
        .await?;
    assert_eq!(labs.store.type_state(OBSERVATION).await?.speed, Some(mark(9)));
    Ok(())
}

#[tokio::test]
async fn whoever_writes_rows_of_other_views_than_the_types_is_refused() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1")]).await?;
    labs.put("gone", "").await?;
    labs.join(2, &[observation("a", 1, "1")]).await?;
    let views = labs.views().await?;
    let mut run = labs.begin(RunKind::Incremental).await?;
    stage(&mut run, &[observation("a", 2, "2")]).await?;
    labs.store.drop_view("gone").await?;
    let refused = labs
        .store
        .apply_page(
            &views,
            None,
            &[],
            Some(&LastPage {
                previews: vec![],
                mark: Some(mark(3)),
            }),
        )
        .await;
    assert!(matches!(refused, Err(StoreError::ViewsChanged { .. })));
    assert!(matches!(
        run.publish_slice(&position(3), PLAN).await,
        Err(StoreError::ViewsChanged { .. })
    ));
    assert!(
        matches!(labs.store.drop_view("gone").await, Err(StoreError::UnknownView { known, .. }) if known == ["labs"])
    );
    Ok(())
}

#[tokio::test]
async fn law_7_what_cannot_be_evaluated_is_recorded_and_cleared() -> anyhow::Result<()> {
    let labs = Fixture::with_labs(&[observation("a", 1, "1"), observation("b", 1, "1e200000")]).await?;
    let errors = || async {
        let mut connection = labs.connect().await?;
        let sql = "SELECT coalesce(string_agg(view || ' ' || id || ' ' || version, ', ' ORDER BY id), '') FROM sqlonfhir.errors";
        anyhow::Ok(
            sqlx::query_scalar::<_, String>(sql)
                .fetch_one(&mut connection)
                .await?,
        )
    };
    assert_eq!(errors().await?, "labs b 1");
    assert_eq!(labs.merged().await?, "a=1");
    labs.apply(2, &[observation("b", 2, "2"), observation("a", 2, "1e-99999")])
        .await?;
    assert_eq!(errors().await?, "labs a 2");
    assert_eq!(labs.merged().await?, "b=2");
    labs.publish(
        RunKind::Incremental,
        3,
        &[observation("b", 2, "2"), observation("a", 2, "1e-99999")],
    )
    .await?;
    assert_eq!(errors().await?, "labs a 2");
    assert_eq!(labs.store.views().await?[0].error_count, 1);
    // A full run settles what no difference in rows tells.
    sqlx::raw_sql("DELETE FROM sqlonfhir_meta.error")
        .execute(&mut labs.connect().await?)
        .await?;
    labs.publish(
        RunKind::Full,
        4,
        &[observation("b", 2, "2"), observation("a", 2, "1e-99999")],
    )
    .await?;
    assert_eq!(errors().await?, "labs a 2");
    Ok(())
}
