//! Statistics beside values of statsmodels, scipy, lifelines and published tables
//! (`tests/fixtures/features`).

use cohortist::stats::{
    AtRisk, TwoByTwo, chi_squared, fisher, holm, kaplan_meier, mantel_haenszel, newcombe,
};
use serde_json::Value;

use crate::support::features::feature;

const TOLERANCE: f64 = 1e-6;

fn close(ours: f64, theirs: &Value) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() < TOLERANCE, "{ours} {theirs}");
}

fn counts(values: &Value) -> Vec<Option<u64>> {
    values
        .as_array()
        .unwrap()
        .iter()
        .map(Value::as_u64)
        .collect()
}

/// The cohorts of both groups that are complete in a column.
fn strata(file: &Value, column: u64) -> Vec<TwoByTwo> {
    let of = |group: &str, column: &str| counts(&file[group][column]);
    let column = column.to_string();
    let parts = of("a", &column).into_iter().zip(of("b", &column));
    let sizes = of("a", "size").into_iter().zip(of("b", "size"));
    parts
        .zip(sizes)
        .filter_map(|((part_a, part_b), (whole_a, whole_b))| {
            Some(TwoByTwo {
                part_a: part_a?,
                whole_a: whole_a?,
                part_b: part_b?,
                whole_b: whole_b?,
            })
        })
        .collect()
}

#[test]
fn two_segments_differ_as_statsmodels_says() {
    let file = feature("comparison");
    let columns = file["columns"].as_array().unwrap();
    let mut tests = Vec::new();
    for column in columns {
        let strata = strata(&file, column["column"].as_u64().unwrap());
        assert_eq!(strata.len() as u64, column["cohorts"].as_u64().unwrap());
        let pooled = TwoByTwo::pooled(strata.iter().copied());
        let found = newcombe(&pooled).unwrap();
        close(found.difference, &column["difference"]);
        close(found.interval.0, &column["newcombe_95"][0]);
        close(found.interval.1, &column["newcombe_95"][1]);
        close(chi_squared(&pooled).unwrap(), &column["p"]);
        let p = mantel_haenszel(&strata).unwrap();
        close(p, &column["stratified"]["p"]);
        tests.push(p);
    }
    for (p, column) in holm(&tests).into_iter().zip(columns) {
        close(p, &column["p_holm_over_4_columns"]);
    }
}

/// A table as `[part_a, whole_a, part_b, whole_b]`.
fn table(values: &Value) -> TwoByTwo {
    let values = counts(values);
    let [part_a, whole_a, part_b, whole_b] = values[..] else {
        panic!("four counts: {values:?}");
    };
    TwoByTwo {
        part_a: part_a.unwrap(),
        whole_a: whole_a.unwrap(),
        part_b: part_b.unwrap(),
        whole_b: whole_b.unwrap(),
    }
}

#[test]
fn another_mix_of_cohorts_is_no_difference() {
    let file = feature("comparison");
    let mix = &file["cohort_mix"];
    let strata: Vec<TwoByTwo> = mix["strata"]
        .as_array()
        .unwrap()
        .iter()
        .map(table)
        .collect();
    close(
        newcombe(&TwoByTwo::pooled(strata.iter().copied()))
            .unwrap()
            .difference,
        &mix["pooled_difference"],
    );
    close(mantel_haenszel(&strata).unwrap(), &mix["stratified"]["p"]);
    // Strata with an empty side say nothing.
    let empty = TwoByTwo {
        part_a: 0,
        whole_a: 0,
        part_b: 5,
        whole_b: 9,
    };
    let more = [strata.clone(), vec![empty]].concat();
    assert_eq!(mantel_haenszel(&more), mantel_haenszel(&strata));
    assert_eq!(mantel_haenszel(&[empty]), None);
}

#[test]
fn few_people_are_compared_exactly() {
    let file = feature("comparison");
    let small = &file["small"];
    let [a, b] = ["a", "b"].map(|group| counts(&small[group]));
    let table = TwoByTwo {
        part_a: a[0].unwrap(),
        whole_a: a[1].unwrap(),
        part_b: b[0].unwrap(),
        whole_b: b[1].unwrap(),
    };
    close(fisher(&table), &small["fisher_two_sided_p"]);
    let found = newcombe(&table).unwrap();
    close(found.interval.0, &small["newcombe_95"][0]);
    close(found.interval.1, &small["newcombe_95"][1]);

    let published = &file["newcombe_published"];
    let table = TwoByTwo {
        part_a: 56,
        whole_a: 70,
        part_b: 48,
        whole_b: 80,
    };
    let found = newcombe(&table).unwrap();
    close(found.interval.0, &published["ours"][0]);
    close(found.interval.1, &published["ours"][1]);
}

#[test]
fn survival_is_that_of_the_text_books() {
    let file = feature("ref_kaplan_meier");
    let durations = counts(&file["durations"]);
    let observed = counts(&file["observed"]);
    let people: Vec<(u64, bool)> = durations
        .iter()
        .zip(observed)
        .map(|(duration, observed)| (duration.unwrap(), observed == Some(1)))
        .collect();
    let expected = file["survival"].as_object().unwrap();
    let mut times: Vec<u64> = expected.keys().map(|time| time.parse().unwrap()).collect();
    times.sort_unstable();
    let steps = times.iter().map(|time| {
        let lost = people.iter().filter(|(at, left)| at == time && *left);
        AtRisk {
            at_risk: people.iter().filter(|(at, _)| at >= time).count() as u64,
            lost: lost.count() as u64,
        }
    });
    let survival = kaplan_meier(steps);
    assert_eq!(survival.len(), times.len());
    for (estimate, time) in survival.iter().zip(&times) {
        close(estimate.rate, &expected[&time.to_string()]);
        let (low, high) = estimate.interval.unwrap();
        assert!(0.0 < low && low < estimate.rate && estimate.rate < high && high < 1.0);
    }
    // Nobody left, and everybody.
    let all = kaplan_meier([
        AtRisk {
            at_risk: 5,
            lost: 0,
        },
        AtRisk {
            at_risk: 5,
            lost: 5,
        },
    ]);
    assert_eq!((all[0].rate, all[0].interval), (1.0, None));
    assert_eq!((all[1].rate, all[1].interval), (0.0, None));
}
