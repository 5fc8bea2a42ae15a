//! A store that changes some answers of another one.

use std::sync::Arc;

use cohortist::sets::{Key, Plan, Set, UserId};
use cohortist::store::cost::{self, Cost};
use cohortist::store::{
    ChangeFeed, Documents, IdMap, KeyListing, Maintenance, Mark, Saved, Store, StoreError,
    StoreInfo,
};

type Result<T> = std::result::Result<T, StoreError>;
type Callback<T> = Box<dyn Fn(T) + Send + Sync>;
type Answer<T> = Box<dyn Fn(Result<T>) -> Result<T> + Send + Sync>;

/// Passes every call on to another store. A test can observe calls and change their results.
pub struct Bent {
    inner: Arc<dyn Store>,
    before_counting: Callback<Plan>,
    applying: Answer<()>,
    /// Added to the cost of a plan.
    work: Box<dyn Fn(&Plan) -> u64 + Send + Sync>,
    counting: Answer<Vec<u64>>,
    members: Answer<Vec<UserId>>,
    keys: Answer<Vec<Key>>,
    describing: Answer<StoreInfo>,
    saving: Answer<Saved>,
    says_version: bool,
    reports_changes: bool,
    is_elsewhere: bool,
}

impl Bent {
    pub fn of(inner: &Arc<dyn Store>) -> Self {
        Bent {
            inner: Arc::clone(inner),
            before_counting: Box::new(|_| {}),
            applying: Box::new(|done| done),
            work: Box::new(|_| 0),
            counting: Box::new(|counts| counts),
            members: Box::new(|users| users),
            keys: Box::new(|keys| keys),
            describing: Box::new(|info| info),
            saving: Box::new(|saved| saved),
            says_version: true,
            reports_changes: true,
            is_elsewhere: false,
        }
    }

    /// Calls `callback` with each plan before it is counted.
    pub fn before_counting(self, callback: impl Fn(Plan) + Send + Sync + 'static) -> Self {
        Bent {
            before_counting: Box::new(callback),
            ..self
        }
    }

    pub fn applying(self, bend: impl Fn(Result<()>) -> Result<()> + Send + Sync + 'static) -> Self {
        Bent {
            applying: Box::new(bend),
            ..self
        }
    }

    /// Adds work to the cost of plans.
    pub fn costing(self, work: impl Fn(&Plan) -> u64 + Send + Sync + 'static) -> Self {
        Bent {
            work: Box::new(work),
            ..self
        }
    }

    pub fn counting(
        self,
        bend: impl Fn(Result<Vec<u64>>) -> Result<Vec<u64>> + Send + Sync + 'static,
    ) -> Self {
        Bent {
            counting: Box::new(bend),
            ..self
        }
    }

    pub fn members(
        self,
        bend: impl Fn(Result<Vec<UserId>>) -> Result<Vec<UserId>> + Send + Sync + 'static,
    ) -> Self {
        Bent {
            members: Box::new(bend),
            ..self
        }
    }

    pub fn keys(
        self,
        bend: impl Fn(Result<Vec<Key>>) -> Result<Vec<Key>> + Send + Sync + 'static,
    ) -> Self {
        Bent {
            keys: Box::new(bend),
            ..self
        }
    }

    pub fn describing(
        self,
        bend: impl Fn(Result<StoreInfo>) -> Result<StoreInfo> + Send + Sync + 'static,
    ) -> Self {
        Bent {
            describing: Box::new(bend),
            ..self
        }
    }

    pub fn saving(
        self,
        bend: impl Fn(Result<Saved>) -> Result<Saved> + Send + Sync + 'static,
    ) -> Self {
        Bent {
            saving: Box::new(bend),
            ..self
        }
    }

    /// Makes it a store on another server.
    pub fn elsewhere(self) -> Self {
        Bent {
            is_elsewhere: true,
            ..self
        }
    }

    /// Whether it has a version of its keys.
    pub fn says_version(self, says_version: bool) -> Self {
        Bent {
            says_version,
            ..self
        }
    }

    /// Whether it reports changes if the inner store does. If not, it behaves like a Redis that
    /// other programs write to.
    pub fn reports_changes(self, reports_changes: bool) -> Self {
        Bent {
            reports_changes,
            ..self
        }
    }

    pub fn shared(self) -> Arc<dyn Store> {
        Arc::new(self)
    }
}

impl Store for Bent {
    fn apply(&self, marks: &[Mark]) -> Result<()> {
        (self.applying)(self.inner.apply(marks))
    }
    fn cost(&self, plan: &Plan) -> Result<Cost> {
        let cost = self.inner.cost(plan)?;
        Ok(Cost {
            work: cost.work + (self.work)(plan),
            ..cost
        })
    }
    fn count(&self, plan: &Plan) -> Result<Vec<u64>> {
        cost::check(|| self.cost(plan))?;
        (self.before_counting)(plan.clone());
        (self.counting)(self.inner.count(plan))
    }
    fn members(&self, set: &Set, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>> {
        (self.members)(self.inner.members(set, after, limit))
    }
    fn contains(&self, keys: &[Key], user: UserId) -> Result<Vec<bool>> {
        self.inner.contains(keys, user)
    }
    fn delete(&self, keys: &[Key]) -> Result<u64> {
        self.inner.delete(keys)
    }
    fn save(&self, set: &Set, key: &Key) -> Result<Saved> {
        (self.saving)(self.inner.save(set, key))
    }
    fn string_ids(&self) -> &dyn IdMap {
        self.inner.string_ids()
    }
    fn describe(&self) -> Result<StoreInfo> {
        (self.describing)(self.inner.describe())
    }
}

impl KeyListing for Bent {
    fn keys(&self, starting_with: &str) -> Result<Vec<Key>> {
        (self.keys)(self.inner.keys(starting_with))
    }
    fn keys_version(&self) -> Option<u64> {
        self.inner.keys_version().filter(|_| self.says_version)
    }
}

/// Where it does not report changes it is asked for counts.
impl ChangeFeed for Bent {
    fn on_change(&self, listener: Box<dyn Fn(&str) + Send + Sync>) -> bool {
        self.reports_changes && self.inner.on_change(listener)
    }
}

impl Documents for Bent {
    fn document(&self, name: &str) -> Result<Option<String>> {
        self.inner.document(name)
    }
    fn replace_document(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool> {
        self.inner.replace_document(name, expected, new)
    }
}

impl Maintenance for Bent {
    fn is_local(&self) -> bool {
        self.inner.is_local() && !self.is_elsewhere
    }
    fn sweep(&self) -> Result<u64> {
        self.inner.sweep()
    }
}
