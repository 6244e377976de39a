//! Five views of a type in one refresh, beside one of them: each resource is read and parsed once for all.

use anyhow::Context as _;

use crate::{
    catalogue::Catalogue,
    fill::Filled,
    refresh,
    report::{ROUNDS, listed, median, ratio},
    servers::Databases,
};

pub(crate) async fn measure(
    databases: &Databases,
    catalogue: &Catalogue,
    filled: &[Filled],
) -> anyhow::Result<()> {
    let filled = filled.first().context("the observations are filled")?;
    let five = catalogue.five_of_observations()?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (views, times) in [&five[..1], &five[..]].into_iter().zip(&mut times) {
            databases.put(views).await?;
            databases.checkpoint().await?;
            let refreshed = refresh::in_process(databases, &filled.resource_type, filled.resources).await?;
            times.push(refreshed.time);
            databases.drop_views().await?;
        }
    }
    let [one, five] = times;
    println!("-- one view: {}; five views: {}", listed(&one), listed(&five));
    ratio("five_views_vs_one", median(&five), median(&one));
    Ok(())
}
