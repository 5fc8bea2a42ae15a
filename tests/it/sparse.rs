//! Users far beyond all others: refused in Redis, where their bitmaps would be large.

use crate::support::program::Shop;
use crate::support::redis::RedisServer;

#[test]
fn a_user_far_beyond_the_others_is_refused_in_redis() {
    let server = RedisServer::start();
    let shop = Shop::new();
    let store = format!("--store={}", server.url());
    let run = |args: &[&str]| shop.run(&[&[store.as_str()], args].concat());
    run(&["mark", "big", "7"]).done();
    let error = run(&["mark", "big", "400000000"]).error(1);
    for said in ["400000000", "50 MB", "--ids map", "--allow-sparse"] {
        assert!(error.contains(said), "{said}: {error}");
    }
    assert_eq!(run(&["people", "big@2026-11-23"]).done(), "7\n");
    // An import refuses before it writes.
    shop.write(
        "a.csv",
        "user,event,timestamp\n8,big,2026-11-23\n400000000,big,2026-11-23\n",
    );
    let error = run(&["import", "a.csv"]).error(1);
    assert!(
        error.contains("--allow-sparse") && error.contains("Nothing was imported"),
        "{error}"
    );
    assert_eq!(run(&["people", "big@2026-11-23"]).done(), "7\n");
    // Ids that grow with the others are fine, in any order.
    let ids = (1..=30_u32).rev().map(|n| n * 5_000_000);
    let lines: String = ids.map(|id| format!("{id},big,2026-11-23\n")).collect();
    shop.write("b.csv", format!("user,event,timestamp\n{lines}"));
    run(&["import", "b.csv"]).quietly();
    assert_eq!(run(&["count", "big@2026-11-23"]).done(), "31\n");
    run(&["mark", "big", "400000000"]).done();
    // Who knows better may.
    run(&["mark", "other", "4000000000", "--allow-sparse"]).done();
    assert_eq!(run(&["people", "other@2026-11-23"]).done(), "4000000000\n");
    // An embedded store has no such limit.
    shop.run(&["mark", "big", "4000000000"]).done();
}
