//! A made-up product to look at: a notes-and-tasks app with some thousand users. Pure, and the same
//! for the same
//! [`Demo`].
//!
//! Sign-ups grow and follow the week. Each user has a plan, a platform and a country, and a
//! stickiness of their own. The chance to be active on a later day falls as a power of the days
//! since sign-up, slower on paid plans; it is lower at weekends and on Android, and the product
//! improves, so newer cohorts come back a little more. The last day ends at `now`.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc, Weekday};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What to make up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demo {
    /// How many users sign up; they get the ids 1, 2, … in the order in which they do.
    pub users: u32,
    /// Over how many days, the one that holds `now` being the last.
    pub days: u32,
    /// Another seed is another product.
    pub seed: u64,
    /// Nothing happens later than this.
    pub now: DateTime<Utc>,
}

/// A user and all they ever did, in no particular order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's id.
    pub id: u32,
    /// Their lasting traits: `plan:pro`, `platform:ios`, `country:US`.
    pub traits: [&'static str; 3],
    /// What they did.
    pub actions: Vec<Action>,
}

/// Something a user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The event's name.
    pub event: &'static str,
    /// When.
    pub at: DateTime<Utc>,
    /// Whether the hour shall be recorded too.
    pub hourly: bool,
}

/// A value, and how often it is met.
type Weighted<T> = (T, f64);

struct Plan {
    name: &'static str,
    /// How quickly interest fades: the exponent of the power law.
    fading: f64,
    /// How many come back on the first day, beside the free plan's.
    pull: f64,
}

const PLANS: [Weighted<Plan>; 3] = [
    (
        Plan {
            name: "plan:free",
            fading: 0.58,
            pull: 1.0,
        },
        0.78,
    ),
    (
        Plan {
            name: "plan:pro",
            fading: 0.36,
            pull: 1.3,
        },
        0.16,
    ),
    (
        Plan {
            name: "plan:team",
            fading: 0.28,
            pull: 1.4,
        },
        0.06,
    ),
];

/// Platforms and what they do to the chance of coming back.
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

/// What can be done on an active day, and how likely it is.
const FEATURES: [Weighted<&str>; 12] = [
    ("task:created", 0.52),
    ("task:completed", 0.43),
    ("search:used", 0.24),
    ("comment:added", 0.16),
    ("reminder:set", 0.12),
    ("calendar:synced", 0.09),
    ("file:uploaded", 0.08),
    ("project:created", 0.06),
    ("template:used", 0.05),
    ("invite:sent", 0.03),
    ("export:run", 0.02),
    (UPGRADE, 0.015),
];

/// Only users of the free plan click it.
const UPGRADE: &str = "upgrade:clicked";

/// Who is active on the day of signing up, nearly all.
const ACTIVE_AT_FIRST: f64 = 0.93;

/// The chance to be active on the day after signing up: free plan, web, a weekday, average
/// stickiness.
const NEXT_DAY: f64 = 0.33;

/// Relative activity by hour of the day, UTC.
const HOURS: [f64; 24] = [
    2.0, 1.5, 1.0, 1.0, 1.0, 1.5, 3.0, 5.0, 7.0, 8.0, 8.0, 7.5, 7.0, 8.0, 8.5, 8.5, 8.0, 7.5, 7.0,
    6.5, 6.0, 5.0, 4.0, 3.0,
];

/// The last days, for which hours are recorded.
const HOURLY_DAYS: u64 = 3;

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

fn activity_weight(day: Weekday) -> f64 {
    if matches!(day, Weekday::Sat | Weekday::Sun) {
        0.72
    } else {
        1.0
    }
}

impl Demo {
    /// The names of all events it makes.
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

    /// The users in the order of their ids.
    pub fn people(&self) -> impl Iterator<Item = Person> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let signups = self.signups(&mut rng);
        let fading = PLANS.map(|(plan, _)| {
            (0..=self.days)
                .map(|day| plan.pull * NEXT_DAY * f64::from(day.max(1)).powf(-plan.fading))
                .collect()
        });
        let mut people = People {
            demo: *self,
            first_day: self.first_day(),
            fading,
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

    /// The moments of all sign-ups, in order.
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
        let (mut reached, mut weight_so_far) = (0, 0.0);
        for (date, weight) in dates.iter().zip(&weights) {
            weight_so_far += weight;
            // Cumulative rounding: the days add up to exactly the users asked for.
            let until = rounded(f64::from(self.users) * weight_so_far / total).min(self.users);
            for _ in reached..until {
                moments.push(self.moment_by_now(rng, *date));
            }
            reached = until;
        }
        moments.resize(self.users as usize, self.now);
        moments.sort_unstable();
        moments
    }

    /// A moment of a day that has come: today's are drawn from what has passed of it.
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

/// A non-negative number to the nearest integer.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(number: f64) -> u32 {
    number.round() as u32
}

/// How much of a day's activity lies before a moment.
fn elapsed_share(now: DateTime<Utc>) -> f64 {
    let hour = now.hour() as usize;
    let passed = HOURS[..hour].iter().sum::<f64>() + HOURS[hour] * f64::from(now.minute()) / 60.0;
    (passed / HOURS.iter().sum::<f64>()).max(0.001)
}

fn moment(rng: &mut ChaCha8Rng, date: NaiveDate) -> DateTime<Utc> {
    let hours = HOURS.map(|weight| ((), weight));
    let hour = u32::try_from(place(rng, &hours)).unwrap_or(0);
    let seconds = hour * 3600 + rng.random_range(0..3600);
    date.and_time(NaiveTime::MIN).and_utc() + TimeDelta::seconds(i64::from(seconds))
}

/// The index of a value, drawn by weight.
fn place<T>(rng: &mut ChaCha8Rng, values: &[Weighted<T>]) -> usize {
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
    first_day: NaiveDate,
    /// For each plan, the chance to be active by days since sign-up.
    fading: [Vec<f64>; 3],
    rng: ChaCha8Rng,
}

impl People {
    fn person(&mut self, id: u32, signup: DateTime<Utc>) -> Person {
        let rng = &mut self.rng;
        let plan = place(rng, &PLANS);
        let (platform, platform_pull) = PLATFORMS[place(rng, &PLATFORMS)].0;
        let country = COUNTRIES[place(rng, &COUNTRIES)].0;
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
        // About log-normal, mean 1: some live in the app, many hardly remember it.
        let normal = (0..4).map(|_| rng.random::<f64>()).sum::<f64>() * 1.73 - 3.46;
        let stickiness = (0.55 * normal - 0.15).exp();
        let age =
            u32::try_from(joined.signed_duration_since(self.first_day).num_days()).unwrap_or(0);
        let improving = 0.86 + 0.30 * f64::from(age) / f64::from(self.demo.days);
        for (since, date) in joined
            .iter_days()
            .take_while(|date| *date <= today)
            .enumerate()
        {
            let chance = match since {
                0 => ACTIVE_AT_FIRST,
                _ => {
                    let fading = self.fading[plan].get(since).copied().unwrap_or(0.0);
                    (fading
                        * platform_pull
                        * stickiness
                        * improving
                        * activity_weight(date.weekday()))
                    .min(0.96)
                }
            };
            if self.rng.random::<f64>() < chance {
                self.day(
                    &mut person,
                    date,
                    (since == 0).then_some(signup),
                    date >= hourly_from,
                    plan == 0,
                );
            }
        }
        person
    }

    /// One active day: when the app was opened, and what was done there.
    fn day(
        &mut self,
        person: &mut Person,
        date: NaiveDate,
        signup: Option<DateTime<Utc>>,
        hourly: bool,
        free: bool,
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
            // Coming back within the day: only hours tell.
            let mut at = first;
            while rng.random::<f64>() < 0.5 {
                at += TimeDelta::minutes(rng.random_range(30..300));
                if at > now || at.date_naive() != date {
                    break;
                }
                person.actions.push(active(at));
            }
        }
        for (event, chance) in FEATURES {
            if rng.random::<f64>() < chance && (free || event != UPGRADE) {
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
    fn the_same_for_the_same_seed_and_now() {
        let people: Vec<Person> = demo().people().collect();
        assert_eq!(people, demo().people().collect::<Vec<_>>());
        assert_ne!(
            people,
            Demo { seed: 2, ..demo() }.people().collect::<Vec<_>>()
        );
    }

    #[test]
    fn ids_follow_the_order_of_signing_up_and_nothing_lies_ahead() {
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
            let grown: Vec<&Person> = people
                .iter()
                .filter(|p| {
                    p.traits[0] == plan && p.actions[0].at < demo().now - TimeDelta::days(31)
                })
                .collect();
            let came = grown.iter().filter(|p| {
                let day = p.actions[0].at.date_naive() + Days::new(after);
                days_of(p, "active").contains(&day)
            });
            came.count() as f64 / grown.len() as f64
        };
        let (next, week, month) = (
            back("plan:free", 1),
            back("plan:free", 7),
            back("plan:free", 30),
        );
        assert!(
            next > week && week > month && month > 0.0,
            "{next} {week} {month}"
        );
        assert!((0.2..0.5).contains(&next), "{next}");
        assert!(back("plan:team", 30) > 1.5 * month);
    }

    #[test]
    fn small_and_odd_sizes_work() {
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
