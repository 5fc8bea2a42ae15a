//! The zone in which a store is kept.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::calendar::Zone;
use crate::reports::QueryError;
use crate::sets::When;
use crate::tracker::base::Tracker;
use crate::tracker::error::{Error, Result};
use crate::tracker::zone_error::ZoneError;

/// The document with the name of the zone. A store without it is kept in UTC.
const ZONE: &str = "zone";

/// How long a store is believed to be kept in the same zone.
const FRESH_FOR: Duration = Duration::from_secs(5);

impl Tracker {
    /// Asks for a store that is kept in this zone: its bitmaps are those of hours, days, weeks and
    /// months by the clocks of the zone. An empty store will be; any other must be kept in it
    /// already.
    ///
    /// ```
    /// use cohortist::calendar::{Zone, parse_moment};
    /// use cohortist::{Tracker, sets::{EventName, Set}, store};
    /// let berlin: Zone = "Europe/Berlin".parse()?;
    /// let store = store::open("memory:", &store::Options::default())?;
    /// let tracker = Tracker::new(store).with_zone(berlin);
    /// let active = EventName::new("active")?;
    /// tracker.mark(&active, 1, parse_moment("2026-11-22T23:30:00Z")?)?;
    /// let monday = berlin.kept().same_named("2026-11-23".parse()?)?;
    /// assert_eq!(tracker.count(&Set::event_in(&active, monday))?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_zone(mut self, zone: Zone) -> Self {
        self.wanted_zone = Some(zone.asked());
        self.is_zone_settled = Arc::default();
        self.zone = Arc::default();
        self
    }

    /// Returns the [kept](Zone::kept) zone of the store; UTC if nothing else was ever said.
    ///
    /// # Errors
    /// [`ZoneError`] if another zone was asked for, or if the store could not be read.
    pub fn kept_in(&self) -> Result<Zone> {
        let asked = Instant::now();
        let mut last = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, zone)) = last.known
            && at.elapsed() < FRESH_FOR
        {
            return Ok(zone);
        }
        // Whoever waited for a store that does not answer shares the error.
        if let Some((ended, error)) = &last.failed
            && *ended >= asked
        {
            return Err(error.clone().into());
        }
        let found = self.find_zone();
        match &found {
            Ok(zone) => last.known = Some((Instant::now(), *zone)),
            Err(Error::Store(error)) => last.failed = Some((Instant::now(), error.clone())),
            Err(_) => {}
        }
        found
    }

    /// Returns the zone of the last answer of the store, or asks it for the first one. A zone that
    /// is only shown does not wait for a store that is away.
    ///
    /// # Errors
    /// Those of [`kept_in`](Self::kept_in), if it was never known.
    pub fn last_kept_in(&self) -> Result<Zone> {
        let known = {
            let last = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
            last.known
        };
        known.map_or_else(|| self.kept_in(), |(_, zone)| Ok(zone))
    }

    fn find_zone(&self) -> Result<Zone> {
        let known = match self.store.document(ZONE)? {
            Some(name) => Some(zone_of(&name)?),
            None => None,
        };
        Ok(match (known, self.wanted_zone) {
            (Some(kept), Some(asked)) if kept != asked && !self.has_dates()? => asked,
            (Some(kept), Some(asked)) if kept != asked => {
                return Err(ZoneError::Other { kept, asked }.into());
            }
            (Some(kept), _) => kept,
            (None, Some(asked)) if !asked.is_utc() && self.has_dates()? => {
                return Err(ZoneError::HasMarks { asked }.into());
            }
            (None, asked) => asked.unwrap_or_default(),
        }
        .kept())
    }

    /// Whether the store has any bitmap of a period.
    fn has_dates(&self) -> Result<bool> {
        let keys = self.store.keys("")?;
        Ok(keys.iter().any(|key| key.when() != When::Ever))
    }

    /// Makes the store remember the zone that was asked for, before the first mark. Marks do so
    /// themselves; a program that writes bitmaps without them calls this first.
    ///
    /// # Errors
    /// [`ZoneError`] if the store is kept in another zone, or if it could not be written.
    pub fn settle_zone(&self) -> Result<Zone> {
        let zone = self.kept_in()?;
        let Some(asked) = self.wanted_zone else {
            return Ok(zone);
        };
        if !self.is_zone_settled.load(Ordering::Relaxed) {
            self.remember_zone(asked)?;
            self.is_zone_settled.store(true, Ordering::Relaxed);
        }
        Ok(zone)
    }

    fn remember_zone(&self, asked: Zone) -> Result<()> {
        let known = self.store.document(ZONE)?;
        let asked_name = (!asked.is_utc()).then(|| asked.name());
        if known.as_deref() == asked_name {
            return Ok(());
        }
        // What is remembered differs: `kept_in` found no dates.
        let is_replaced = self
            .store
            .replace_document(ZONE, known.as_deref(), asked_name)?;
        if !is_replaced {
            let kept = match self.store.document(ZONE)? {
                Some(name) => zone_of(&name)?,
                None => Zone::UTC,
            };
            if kept != asked {
                return Err(ZoneError::Other { kept, asked }.into());
            }
        }
        // First remember it, so that others mark its periods; then look for earlier ones.
        if asked_name.is_some() && self.has_dates()? {
            self.store.replace_document(ZONE, asked_name, None)?;
            return Err(ZoneError::HasMarks { asked }.into());
        }
        Ok(())
    }

    /// Returns the zone of a question that names none: that of the store if it is kept in one, and
    /// otherwise `usual`.
    ///
    /// # Errors
    /// Those of [`kept_in`](Self::kept_in).
    pub fn own_zone(&self, usual: Zone) -> Result<Zone> {
        let kept = self.kept_in()?;
        Ok(if kept.is_kept() { kept.asked() } else { usual })
    }

    /// Returns the zone by which a question counts: any zone in a store in UTC, where hours answer
    /// it, and otherwise only that of the store.
    ///
    /// # Errors
    /// [`QueryError::KeptIn`] for another zone than that of the store, and the errors of
    /// [`kept_in`](Self::kept_in).
    pub fn in_zone(&self, asked: Zone) -> Result<Zone> {
        let kept = self.kept_in()?;
        match () {
            () if kept.is_utc() => Ok(asked.asked()),
            () if kept.asked() == asked.asked() => Ok(kept),
            () => Err(QueryError::KeptIn {
                kept: kept.asked(),
                asked: asked.asked(),
            }
            .into()),
        }
    }
}

fn zone_of(name: &str) -> Result<Zone> {
    let zone = name.parse();
    Ok(zone.map_err(|_| ZoneError::Unknown(name.to_owned()))?)
}
