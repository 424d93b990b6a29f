//! Deliveries that history knows, each event read back from the log by its place.

use super::Work;
use super::walk::{Again, Step, Stop, percent};
use platform::catalog::CatalogError;
use platform::history::{DeliveryRow, GivenUp};
use platform::replays::{Place, Replay, Which};
use schemas::event::Position;
use schemas::ids::Tenant;
use schemas::time::Millis;

/// A walk over the deliveries to one target, oldest first. Those sent get another status, which changes
/// nothing of their order.
pub(super) struct HistoryWalk {
    replay: Replay,
    after: Option<(Millis, String)>,
    total: u64,
    seen: u64,
}

impl HistoryWalk {
    pub(super) async fn open(work: &Work, replay: &Replay) -> Result<Self, Stop> {
        let mut walk = Self {
            replay: replay.clone(),
            after: None,
            total: 1,
            seen: replay.counts.examined,
        };
        match &replay.place {
            Place::History { after, total } => {
                walk.after.clone_from(after);
                walk.total = *total;
            }
            Place::Start | Place::Log { .. } if replay.which != Which::One => {
                walk.total = work
                    .history
                    .count_given_up(&replay.tenant, &walk.query(0))
                    .await?;
            }
            Place::Start | Place::Log { .. } => {}
        }
        Ok(walk)
    }

    fn query(&self, limit: usize) -> GivenUp {
        GivenUp {
            target: self.replay.target,
            canceled: self.replay.which == Which::Failed,
            from: self.replay.from,
            to: self.replay.to,
            after: self.after.clone(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        }
    }

    async fn rows(&self, work: &Work, most: usize) -> Result<Vec<(DeliveryRow, Option<Position>)>, Stop> {
        let tenant = &self.replay.tenant;
        let Some(id) = &self.replay.delivery else {
            return Ok(work.history.given_up(tenant, &self.query(most)).await?);
        };
        match work.history.placed(tenant, id).await {
            Ok(found) => Ok(vec![found]),
            Err(CatalogError::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn next(&mut self, work: &Work, most: usize) -> Result<Step, Stop> {
        let rows = self.rows(work, most).await?;
        let examined = rows.len() as u64;
        let done = self.replay.delivery.is_some() || rows.len() < most;
        let mut again = Vec::with_capacity(rows.len());
        let mut lost = 0;
        for (row, place) in rows {
            self.after = Some((row.accepted_at, row.id.as_str().to_owned()));
            match read_back(work, &self.replay.tenant, row, place).await? {
                Some(one) => again.push(one),
                None => lost += 1,
            }
        }
        self.seen += examined;
        Ok(Step {
            again,
            examined,
            lost,
            place: Place::History {
                after: self.after.clone(),
                total: self.total,
            },
            percent: if done {
                100
            } else {
                percent(self.total.saturating_sub(self.seen), self.total).min(99)
            },
            done,
        })
    }
}

/// A delivery's event from the log; `None` when that holds it no longer, or holds another in its place.
async fn read_back(
    work: &Work,
    tenant: &Tenant,
    row: DeliveryRow,
    place: Option<Position>,
) -> Result<Option<Again>, Stop> {
    let Some(place) = place else {
        return Ok(None);
    };
    let Some(record) = work.log.read_at(&place).await? else {
        return Ok(None);
    };
    let Some(mut event) = work.event(&record).await else {
        return Ok(None);
    };
    // A topic that was made anew has other records in the old places, of other tenants too.
    if event.id != row.event_id || event.tenant != *tenant {
        return Ok(None);
    }
    event.accepted_at = row.accepted_at;
    Ok(Some(Again {
        event,
        record,
        delivery: Some((row.status, row.attempts)),
    }))
}
