//! Properties of imports: undated, dated, and the newest value only.

use crate::support::program::Shop;

const LINES: &str = "user,event,timestamp,plan\n\
    1,a,2026-11-02,free\n\
    1,a,2026-11-09,pro\n\
    2,a,2026-11-09,pro\n\
    2,a,2026-11-02,free\n\
    3,a,2026-11-02,free\n\
    4,a,2026-11-02,\n";

fn people(shop: &Shop, sets: &[&str]) -> Vec<String> {
    sets.iter()
        .map(|set| {
            let people = shop.run(&["people", set]);
            people.out.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect()
}

#[test]
fn a_user_has_the_newest_value_only() {
    let shop = Shop::new();
    shop.write("a.csv", LINES);
    let ever = ["plan:free@ever", "plan:pro@ever"];
    // The order of the lines makes no difference, and neither does the size of a batch.
    for options in [&[][..], &["--batch-rows", "1"]] {
        let args = [&["import", "a.csv", "--property", "plan:current"], options].concat();
        shop.run(&args).quietly();
        assert_eq!(people(&shop, &ever), ["3", "1 2"], "{options:?}");
    }
    // A later import replaces what an earlier one wrote, also with values of its own.
    shop.write(
        "b.csv",
        "user,event,timestamp,plan\n1,a,2026-11-01,free\n2,a,2026-11-16,team\n",
    );
    shop.run(&["import", "b.csv", "--property", "plan:current"])
        .quietly();
    let all = ["plan:free@ever", "plan:pro@ever", "plan:team@ever"];
    assert_eq!(people(&shop, &all), ["1 3", "", "2"]);
    // The events themselves stay.
    assert_eq!(people(&shop, &["a@2026-11"]), ["1 2 3 4"]);
    // String ids.
    let shop = Shop::new();
    shop.write("a.csv", LINES.replace("\n1,", "\nann,"));
    shop.run(&[
        "--ids",
        "map",
        "import",
        "a.csv",
        "--property",
        "plan:current",
    ])
    .done();
    assert_eq!(people(&shop, &ever), ["3", "ann 2"]);
}

#[test]
fn a_dated_property_has_a_value_in_each_period() {
    let shop = Shop::new();
    shop.write("a.csv", LINES);
    shop.run(&["import", "a.csv", "--property", "plan:dated"])
        .quietly();
    assert_eq!(
        people(
            &shop,
            &["plan:free@2026-11-02", "plan:pro@2026-W46", "plan:pro@ever"]
        ),
        ["1 2 3", "1 2", ""]
    );
}

#[test]
fn several_values_are_reported_with_what_to_do() {
    let shop = Shop::new();
    shop.write("a.csv", LINES);
    let ran = shop.run(&["import", "a.csv", "--property", "plan"]);
    for said in [
        "2 of 3 users have more than one value of `plan`",
        "plan:dated",
        "plan:current",
    ] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    assert_eq!(
        people(&shop, &["plan:free@ever", "plan:pro@ever"]),
        ["1 2 3", "1 2"]
    );
}

#[test]
fn the_configuration_names_properties() {
    let shop = Shop::new();
    shop.write("a.csv", LINES);
    shop.write(
        "cohortist.toml",
        "[import]\nproperties = [\"plan:current\", \"country\"]\n",
    );
    // A file may lack one of them.
    let ran = shop.run(&["import", "a.csv"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("no line has the property `country`"),
        "{}",
        ran.err
    );
    assert_eq!(
        people(&shop, &["plan:free@ever", "plan:pro@ever"]),
        ["3", "1 2"]
    );
    // Options replace them.
    let shop = Shop::new();
    shop.write("a.csv", LINES);
    shop.write("cohortist.toml", "[import]\nproperties = [\"country\"]\n");
    shop.run(&["import", "a.csv", "--property", "plan:dated"])
        .quietly();
    assert_eq!(people(&shop, &["plan:pro@2026-11-09"]), ["1 2"]);
    shop.write(
        "cohortist.toml",
        "[import]\nproperties = [\"\"]\nplan = 1\n",
    );
    let error = shop.run(&["import", "a.csv"]).error(2);
    assert!(
        error.contains("`import.properties`") && error.contains("`import.plan`"),
        "{error}"
    );
}
