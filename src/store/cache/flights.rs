//! Computes a value once for all threads that want it at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::{Cancel, Result, StoreError};

/// How often a request that waits for the computation of another one checks whether it was
/// cancelled.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// Identifies a value: 128 bits of two keyed hashes. Collisions cannot be forced, and happen by
/// chance once in 10²⁰ times with a billion values.
pub(super) type Id = u128;

/// What is being computed, by the id of each value.
pub(super) struct Flights<T>(Mutex<HashMap<Id, Arc<Flight<T>>>>);

/// The result of a computation: a value for each id; `None` while it runs.
type Outcome<T> = Option<Result<HashMap<Id, T>>>;

/// One computation of several values.
struct Flight<T> {
    outcome: Mutex<Outcome<T>>,
    landed: Condvar,
}

/// A value that a caller wants.
#[derive(Clone, Copy)]
pub(super) struct Want {
    pub id: Id,
    /// It costs next to nothing: it is computed along with the others, so that it is of the same
    /// moment.
    pub is_light: bool,
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights(Mutex::default())
    }
}

impl<T: Clone> Flight<T> {
    /// Waits for the value of an id. `None` if the computation did not finish, so that another
    /// thread has to take over.
    fn wait(&self, id: Id, cancel: &Cancel) -> Result<Option<T>> {
        let mut outcome = lock(&self.outcome);
        while outcome.is_none() {
            cancel.check()?;
            (outcome, _) = self
                .landed
                .wait_timeout(outcome, CHECK_EVERY)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match &*outcome {
            Some(Ok(found)) => Ok(found.get(&id).cloned()),
            // The client of the computing thread is gone; those that wait here are not.
            Some(Err(StoreError::Cancelled)) | None => Ok(None),
            Some(Err(error)) => Err(error.clone()),
        }
    }
}

/// Ends a flight even after a panic, so that no thread waits for ever.
struct Landing<'a, T> {
    flights: &'a Flights<T>,
    flight: Arc<Flight<T>>,
    own: Vec<Id>,
    outcome: Outcome<T>,
}

impl<T> Drop for Landing<'_, T> {
    fn drop(&mut self) {
        let mut flying = lock(&self.flights.0);
        for id in &self.own {
            if flying
                .get(id)
                .is_some_and(|flight| Arc::ptr_eq(flight, &self.flight))
            {
                flying.remove(id);
            }
        }
        drop(flying);
        // After a panic there is no outcome: one of the waiting threads takes over.
        *lock(&self.flight.outcome) =
            Some(self.outcome.take().unwrap_or_else(|| Ok(HashMap::new())));
        self.flight.landed.notify_all();
    }
}

impl<T: Clone> Flights<T> {
    /// Returns each wanted value with the number of the call it comes from. `compute` gets the
    /// places of those that no other thread is computing, and returns a value for each. The others
    /// are waited for; if the thread that computes them is cancelled or panics, one of the waiting
    /// threads takes over.
    pub(super) fn once(
        &self,
        wants: &[Want],
        shared: bool,
        compute: impl Fn(&[usize]) -> Result<Vec<T>>,
    ) -> Result<Vec<(T, usize)>> {
        let mut found = vec![None; wants.len()];
        let mut calls = Vec::new();
        let mut wanted: Vec<usize> = (0..wants.len()).collect();
        while !wanted.is_empty() {
            wanted = self.round(wants, &wanted, &mut found, &mut calls, shared, &compute)?;
        }
        let found = found.into_iter();
        Ok(found
            .map(|value| value.expect("all wanted values were found"))
            .collect())
    }

    /// Computes each wanted value or waits for it once; returns the places of those that no thread
    /// finished.
    fn round(
        &self,
        wants: &[Want],
        wanted: &[usize],
        found: &mut [Option<(T, usize)>],
        calls: &mut Vec<Arc<Flight<T>>>,
        shared: bool,
        compute: &impl Fn(&[usize]) -> Result<Vec<T>>,
    ) -> Result<Vec<usize>> {
        let flight = Arc::new(Flight {
            outcome: Mutex::new(None),
            landed: Condvar::new(),
        });
        let mut own = Vec::new();
        let mut others = Vec::new();
        {
            let mut flying = lock(&self.0);
            let joined: Vec<_> = wanted
                .iter()
                .map(|place| flying.get(&wants[*place].id).filter(|_| shared).cloned())
                .collect();
            let has_work = joined
                .iter()
                .zip(wanted)
                .any(|(other, place)| other.is_none() && !wants[*place].is_light);
            for (place, other) in wanted.iter().copied().zip(joined) {
                match other.filter(|_| !(has_work && wants[place].is_light)) {
                    Some(other) => others.push((place, other)),
                    None => {
                        flying.insert(wants[place].id, Arc::clone(&flight));
                        own.push(place);
                    }
                }
            }
        }
        if !own.is_empty() {
            let own_ids: Vec<Id> = own.iter().map(|place| wants[*place].id).collect();
            calls.push(Arc::clone(&flight));
            let mut landing = Landing {
                flights: self,
                flight,
                own: own_ids.clone(),
                outcome: None,
            };
            let computed = compute(&own);
            landing.outcome = Some(
                computed
                    .clone()
                    .map(|computed| own_ids.into_iter().zip(computed).collect()),
            );
            drop(landing);
            let computed = computed?;
            assert_eq!(computed.len(), own.len(), "one value for each place");
            for (place, computed) in own.iter().zip(computed) {
                found[*place] = Some((computed, calls.len() - 1));
            }
        }
        // Own work comes first, so that two threads cannot wait for each other.
        let mut left = Vec::new();
        let cancel = Cancel::current();
        for (place, other) in others {
            match other.wait(wants[place].id, &cancel)? {
                Some(computed) => {
                    let call = calls
                        .iter()
                        .position(|call| Arc::ptr_eq(call, &other))
                        .unwrap_or_else(|| {
                            calls.push(other);
                            calls.len() - 1
                        });
                    found[place] = Some((computed, call));
                }
                None => left.push(place),
            }
        }
        Ok(left)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
