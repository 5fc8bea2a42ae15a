//! Demo data: a fictional notes-and-tasks app with some thousand users. The data is a pure function
//! of a [`Demo`].
//!
//! Sign-ups grow over time and depend on the day of the week. Each user has a plan, a platform, a
//! country and an individual stickiness. The probability of being active on a later day is a power
//! of the days since sign-up. It decreases more slowly on paid plans, and is lower at weekends and
//! on Android. The country makes no difference. Who signs up on the day of the
//! [release](Demo::release) or later returns more often than who signed up before. Sticky users use
//! templates more often. The last day ends at `now`.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc, Weekday};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The parameters of the demo data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demo {
    /// The number of users. Their ids are 1, 2, … in order of sign-up.
    pub users: u32,
    /// The number of days. The last one is the day of `now`.
    pub days: u32,
    /// The seed of the random numbers.
    pub seed: u64,
    /// The time of the latest possible event.
    pub now: DateTime<Utc>,
}

/// A user and all events of the user, in no particular order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's id.
    pub id: u32,
    /// The undated events of the user: `plan:pro`, `platform:ios`, `country:US`.
    pub traits: [&'static str; 3],
    /// The dated events of the user.
    pub actions: Vec<Action>,
}

/// A dated event of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The name of the event.
    pub event: &'static str,
    /// The time of the event.
    pub at: DateTime<Utc>,
    /// Whether to mark the hour too.
    pub hourly: bool,
}

/// A value and its relative frequency.
type Weighted<T> = (T, f64);

struct Plan {
    name: &'static str,
    /// The exponent of the power law by which the probability of being active decreases.
    decay: f64,
    /// The probability of being active on the day after sign-up, relative to the free plan.
    next_day: f64,
}

const PLANS: [Weighted<Plan>; 3] = [
    (
        Plan {
            name: "plan:free",
            decay: 0.58,
            next_day: 1.0,
        },
        0.78,
    ),
    (
        Plan {
            name: "plan:pro",
            decay: 0.36,
            next_day: 1.3,
        },
        0.16,
    ),
    (
        Plan {
            name: "plan:team",
            decay: 0.28,
            next_day: 1.4,
        },
        0.06,
    ),
];

/// Platforms, and the factor by which each changes the probability of being active.
const PLATFORMS: [Weighted<(&str, f64)>; 3] = [
    (("platform:web", 1.0), 0.48),
    (("platform:ios", 1.12), 0.29),
    (("platform:android", 0.84), 0.23),
];

const COUNTRIES: [Weighted<&str>; 8] = [
    ("country:US", 0.31),
    ("country:DE", 0.14),
    ("country:GB", 0.13),
    ("country:IN", 0.12),
    ("country:FR", 0.10),
    ("country:BR", 0.09),
    ("country:JP", 0.06),
    ("country:NL", 0.05),
];

/// The events of an active day, and the probability of each.
const FEATURES: [Weighted<&str>; 12] = [
    ("task:created", 0.52),
    ("task:completed", 0.43),
    ("search:used", 0.24),
    ("comment:added", 0.16),
    ("reminder:set", 0.12),
    ("calendar:synced", 0.09),
    ("file:uploaded", 0.08),
    ("project:created", 0.06),
    (TEMPLATE, 0.05),
    ("invite:sent", 0.03),
    ("export:run", 0.02),
    (UPGRADE, 0.015),
];

/// An event that only users of the free plan have.
const UPGRADE: &str = "upgrade:clicked";

/// The probability of being active on the day of sign-up.
const SIGNUP_DAY: f64 = 0.93;

/// The probability of being active on the day after sign-up, for the free plan, on the web, on a
/// weekday, with average stickiness.
const NEXT_DAY: f64 = 0.33;

/// Relative activity by hour of the day, UTC.
const HOURS: [f64; 24] = [
    2.0, 1.5, 1.0, 1.0, 1.0, 1.5, 3.0, 5.0, 7.0, 8.0, 8.0, 7.5, 7.0, 8.0, 8.5, 8.5, 8.0, 7.5, 7.0,
    6.5, 6.0, 5.0, 4.0, 3.0,
];

/// The number of days, up to the last one, for which hours are marked.
const HOURLY_DAYS: u64 = 35;

/// The number of days between the release and the last day, or half of all days if they are few.
/// The release is on the Monday on or before that day.
const RELEASED: u32 = 38;

/// The factor by which the release changes the probability of being active.
const RELEASE_EFFECT: f64 = 1.25;

/// The event that sticky users have more often.
const TEMPLATE: &str = "template:used";

/// Relative sign-ups by day of the week.
fn signup_weight(day: Weekday) -> f64 {
    match day {
        Weekday::Mon => 1.10,
        Weekday::Tue => 1.16,
        Weekday::Wed => 1.12,
        Weekday::Thu => 1.04,
        Weekday::Fri => 0.92,
        Weekday::Sat => 0.60,
        Weekday::Sun => 0.66,
    }
}

/// Relative activity by day of the week.
fn activity_weight(day: Weekday) -> f64 {
    if matches!(day, Weekday::Sat | Weekday::Sun) {
        0.72
    } else {
        1.0
    }
}

impl Demo {
    /// Iterates over the names of all events.
    pub fn event_names() -> impl Iterator<Item = &'static str> {
        let traits = PLANS
            .iter()
            .map(|(plan, _)| plan.name)
            .chain(PLATFORMS.iter().map(|((name, _), _)| *name));
        let traits = traits.chain(COUNTRIES.iter().map(|(name, _)| *name));
        ["signup", "active"]
            .into_iter()
            .chain(FEATURES.iter().map(|(name, _)| *name))
            .chain(traits)
    }

    /// Generates the users, in order of their ids.
    pub fn people(&self) -> impl Iterator<Item = Person> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let signups = self.signups(&mut rng);
        let activity = PLANS.map(|(plan, _)| {
            (0..=self.days)
                .map(|day| plan.next_day * NEXT_DAY * f64::from(day.max(1)).powf(-plan.decay))
                .collect()
        });
        let mut people = People {
            demo: *self,
            activity,
            rng,
        };
        (1..)
            .zip(signups)
            .map(move |(id, at)| people.person(id, at))
    }

    fn first_day(&self) -> NaiveDate {
        let today = self.now.date_naive();
        today
            .checked_sub_days(Days::new(u64::from(self.days.saturating_sub(1))))
            .unwrap_or(today)
    }

    /// Returns the date of the release that helped.
    pub fn release(&self) -> NaiveDate {
        let today = self.now.date_naive();
        let ago = RELEASED.min(self.days / 2);
        let released = today.checked_sub_days(Days::new(ago.into()));
        let monday = released.map(|date| date.week(Weekday::Mon).first_day());
        monday.unwrap_or(today)
    }

    /// Generates the times of all sign-ups, in order.
    fn signups(&self, rng: &mut ChaCha8Rng) -> Vec<DateTime<Utc>> {
        let dates: Vec<NaiveDate> = self
            .first_day()
            .iter_days()
            .take(self.days as usize)
            .collect();
        let today = self.now.date_naive();
        let mut weights: Vec<f64> = Vec::with_capacity(dates.len());
        for (day, date) in (0_u32..).zip(&dates) {
            let growth = 1.0 + 1.6 * f64::from(day) / f64::from(self.days);
            let luck = 0.92 + 0.16 * rng.random::<f64>();
            let so_far = if *date == today {
                elapsed_share(self.now)
            } else {
                1.0
            };
            weights.push(growth * luck * signup_weight(date.weekday()) * so_far);
        }
        let total: f64 = weights.iter().sum();
        let mut moments = Vec::with_capacity(self.users as usize);
        let mut signed_up = 0;
        let mut weight_so_far = 0.0;
        for (date, weight) in dates.iter().zip(&weights) {
            weight_so_far += weight;
            // Cumulative totals are rounded, so that the days add up to the number of users.
            let until = rounded(f64::from(self.users) * weight_so_far / total).min(self.users);
            for _ in signed_up..until {
                moments.push(self.moment_by_now(rng, *date));
            }
            signed_up = until;
        }
        moments.resize(self.users as usize, self.now);
        moments.sort_unstable();
        moments
    }

    /// Generates a moment on a date, which is not after `now`.
    fn moment_by_now(&self, rng: &mut ChaCha8Rng, date: NaiveDate) -> DateTime<Utc> {
        for _ in 0..200 {
            let moment = moment(rng, date);
            if moment <= self.now {
                return moment;
            }
        }
        date.and_time(NaiveTime::MIN).and_utc()
    }
}

/// Rounds a non-negative number to the nearest integer.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(number: f64) -> u32 {
    number.round() as u32
}

/// Returns the share of a day's activity that lies before a moment.
fn elapsed_share(now: DateTime<Utc>) -> f64 {
    let hour = now.hour() as usize;
    let passed = HOURS[..hour].iter().sum::<f64>() + HOURS[hour] * f64::from(now.minute()) / 60.0;
    (passed / HOURS.iter().sum::<f64>()).max(0.001)
}

/// Generates a moment on a date.
fn moment(rng: &mut ChaCha8Rng, date: NaiveDate) -> DateTime<Utc> {
    let hours = HOURS.map(|weight| ((), weight));
    let hour = u32::try_from(draw(rng, &hours)).expect("a day has 24 hours");
    let seconds = hour * 3600 + rng.random_range(0..3600);
    date.and_time(NaiveTime::MIN).and_utc() + TimeDelta::seconds(i64::from(seconds))
}

/// Draws a value according to the weights. Returns its index.
fn draw<T>(rng: &mut ChaCha8Rng, values: &[Weighted<T>]) -> usize {
    let mut rest = rng.random::<f64>() * values.iter().map(|(_, weight)| weight).sum::<f64>();
    for (index, (_, weight)) in values.iter().enumerate() {
        rest -= weight;
        if rest < 0.0 {
            return index;
        }
    }
    values.len() - 1
}

struct People {
    demo: Demo,
    /// For each plan, the probability of being active by days since sign-up.
    activity: [Vec<f64>; 3],
    rng: ChaCha8Rng,
}

impl People {
    fn person(&mut self, id: u32, signup: DateTime<Utc>) -> Person {
        let rng = &mut self.rng;
        let plan = draw(rng, &PLANS);
        let (platform, platform_factor) = PLATFORMS[draw(rng, &PLATFORMS)].0;
        let country = COUNTRIES[draw(rng, &COUNTRIES)].0;
        let mut person = Person {
            id,
            traits: [PLANS[plan].0.name, platform, country],
            actions: Vec::with_capacity(16),
        };
        let today = self.demo.now.date_naive();
        let joined = signup.date_naive();
        let hourly_from = today
            .checked_sub_days(Days::new(HOURLY_DAYS - 1))
            .unwrap_or(today);
        person.actions.push(Action {
            event: "signup",
            at: signup,
            hourly: joined >= hourly_from,
        });
        // Approximately log-normal with mean 1: a few users are active often, many seldom.
        let normal = (0..4).map(|_| rng.random::<f64>()).sum::<f64>() * 1.73 - 3.46;
        let stickiness = (0.55 * normal - 0.15).exp();
        let product = if joined >= self.demo.release() {
            RELEASE_EFFECT
        } else {
            1.0
        };
        for (since, date) in joined
            .iter_days()
            .take_while(|date| *date <= today)
            .enumerate()
        {
            let probability = match since {
                0 => SIGNUP_DAY,
                _ => (self.activity[plan][since]
                    * platform_factor
                    * stickiness
                    * product
                    * activity_weight(date.weekday()))
                .min(0.96),
            };
            if self.rng.random::<f64>() < probability {
                self.day(
                    &mut person,
                    date,
                    (since == 0).then_some(signup),
                    date >= hourly_from,
                    plan == 0,
                    stickiness,
                );
            }
        }
        person
    }

    /// Generates the events of one active day.
    fn day(
        &mut self,
        person: &mut Person,
        date: NaiveDate,
        signup: Option<DateTime<Utc>>,
        hourly: bool,
        free: bool,
        stickiness: f64,
    ) {
        let rng = &mut self.rng;
        let now = self.demo.now;
        let first = signup.unwrap_or_else(|| moment(rng, date));
        if first > now {
            return;
        }
        let active = |at| Action {
            event: "active",
            at,
            hourly,
        };
        person.actions.push(active(first));
        if hourly {
            // Further events on the same day make a difference only for hours.
            let mut at = first;
            while rng.random::<f64>() < 0.5 {
                at += TimeDelta::minutes(rng.random_range(30..300));
                if at > now || at.date_naive() != date {
                    break;
                }
                person.actions.push(active(at));
            }
        }
        for (event, probability) in FEATURES {
            let probability = match event {
                TEMPLATE => probability * stickiness,
                _ => probability,
            };
            if rng.random::<f64>() < probability && (free || event != UPGRADE) {
                person.actions.push(Action {
                    event,
                    at: first,
                    hourly: false,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::parse_moment;
    use std::collections::BTreeSet;

    fn demo() -> Demo {
        Demo {
            users: 4_000,
            days: 60,
            seed: 1,
            now: parse_moment("2026-11-23T14:05:00Z").unwrap(),
        }
    }

    fn days_of(person: &Person, event: &str) -> BTreeSet<NaiveDate> {
        person
            .actions
            .iter()
            .filter(|d| d.event == event)
            .map(|d| d.at.date_naive())
            .collect()
    }

    #[test]
    fn the_data_depends_only_on_the_parameters() {
        let people: Vec<Person> = demo().people().collect();
        assert_eq!(people, demo().people().collect::<Vec<_>>());
        assert_ne!(
            people,
            Demo { seed: 2, ..demo() }.people().collect::<Vec<_>>()
        );
    }

    #[test]
    fn ids_are_in_order_of_sign_up_and_no_event_is_after_now() {
        let people: Vec<Person> = demo().people().collect();
        assert_eq!(
            people.iter().map(|p| p.id).collect::<Vec<_>>(),
            (1..=4_000).collect::<Vec<_>>()
        );
        let signups: Vec<_> = people.iter().map(|p| p.actions[0].at).collect();
        assert!(signups.is_sorted());
        assert_eq!(signups[0].date_naive().to_string(), "2026-09-25");
        assert!(people.iter().all(|p| {
            p.actions
                .iter()
                .all(|d| d.at <= demo().now && d.at >= p.actions[0].at)
        }));
        let known: BTreeSet<&str> = Demo::event_names().collect();
        assert!(
            people
                .iter()
                .all(|p| p.actions.iter().all(|d| known.contains(d.event)))
        );
        assert!(
            people
                .iter()
                .all(|p| p.traits.iter().all(|t| known.contains(t)))
        );
    }

    #[test]
    fn retention_decays_and_differs_by_plan() {
        let people: Vec<Person> = demo().people().collect();
        let back = |plan: &str, after: u64| {
            let cohort: Vec<&Person> = people
                .iter()
                .filter(|p| {
                    p.traits[0] == plan && p.actions[0].at < demo().now - TimeDelta::days(31)
                })
                .collect();
            let returned = cohort.iter().filter(|p| {
                let day = p.actions[0].at.date_naive() + Days::new(after);
                days_of(p, "active").contains(&day)
            });
            returned.count() as f64 / cohort.len() as f64
        };
        let next = back("plan:free", 1);
        let week = back("plan:free", 7);
        let month = back("plan:free", 30);
        assert!(
            next > week && week > month && month > 0.0,
            "{next} {week} {month}"
        );
        assert!((0.2..0.5).contains(&next), "{next}");
        assert!(back("plan:team", 30) > 1.5 * month);
    }

    #[test]
    fn who_signs_up_after_the_release_returns_more_often() {
        let demo = demo();
        let release = demo.release();
        assert_eq!(
            (release.weekday(), release.to_string().as_str()),
            (Weekday::Mon, "2026-10-19")
        );
        let people: Vec<Person> = demo.people().collect();
        let share = |after: bool| {
            let joined = |person: &Person| person.actions[0].at.date_naive();
            let cohort = people.iter().filter(|person| {
                (joined(person) >= release) == after
                    && joined(person) + Days::new(7) < demo.now.date_naive()
            });
            let week = |person: &Person| {
                let active = days_of(person, "active");
                (1..=7).any(|day| active.contains(&(joined(person) + Days::new(day))))
            };
            let back: Vec<bool> = cohort.map(week).collect();
            back.iter().filter(|is_back| **is_back).count() as f64 / back.len() as f64
        };
        assert!(
            share(true) > share(false) + 0.03,
            "{} {}",
            share(true),
            share(false)
        );
    }

    #[test]
    fn small_and_unusual_sizes_work() {
        for (users, days) in [(1, 1), (1, 400), (50, 1), (3, 2)] {
            assert_eq!(
                Demo {
                    users,
                    days,
                    ..demo()
                }
                .people()
                .count(),
                users as usize
            );
        }
        let midnight = Demo {
            now: parse_moment("2026-11-23").unwrap(),
            ..demo()
        };
        assert!(
            midnight
                .people()
                .all(|p| p.actions.iter().all(|d| d.at <= midnight.now))
        );
    }
}
