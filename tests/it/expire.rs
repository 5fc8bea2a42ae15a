//! `cohortist expire`: what goes, what stays, and that nothing goes unasked.

use crate::support::program::Shop;
use crate::support::redis::RedisServer;

fn fill(shop: &Shop, store: &[&str]) {
    for day in ["2025-10-18", "2025-10-19", "2026-10-23T23:59:00Z", "2026-10-24T15:00:00Z", "2026-11-23T13:30:00Z"] {
        for user in ["1", "2000000"] {
            shop.run(&[store, &["mark", "active", user, "--at", day, "--hourly", "--ever"]].concat()).done();
        }
    }
}

#[test]
fn what_was_kept_long_enough_goes_when_told_and_never_before() {
    let server = RedisServer::start();
    let url = server.url();
    for store in [&[][..], &["--store", &url]] {
        let shop = Shop::new();
        fill(&shop, store);
        let run = |args: &[&str]| shop.run(&[store, args].concat());
        let wishes = ["expire", "--hours", "30d", "--days", "400d"];
        let count = |set: &str| run(&["count", set]).done();
        let dry = run(&wishes);
        assert_eq!(dry.code, 0, "{}", dry.err);
        assert!(dry.err.contains("4 bitmaps would go; nothing was deleted: add --yes to do it"), "{}", dry.err);
        let lines: Vec<&str> = dry.out.lines().collect();
        assert_eq!(lines.len(), 2, "{}", dry.out);
        assert!(lines[0].starts_with("hours") && lines[0].ends_with("18 Oct 00:00 to 23 Oct 23:00"), "{}", lines[0]);
        assert!(
            lines[1].starts_with("days") && lines[1].ends_with("Sat 18 Oct 2025 to Sat 18 Oct 2025"),
            "{}",
            lines[1]
        );
        // Half a megabyte in Redis, some bytes here.
        assert!(
            lines[1].contains("about ") && lines[1].contains(if store.is_empty() { " B " } else { "KiB" }),
            "{}",
            lines[1]
        );
        assert_eq!(count("active@2025-10-18"), "2\n");

        let done = run(&[&wishes[..], &["--yes"]].concat());
        assert_eq!(done.err, "deleted 4 bitmaps\n");
        assert_eq!(count("active@2025-10-18"), "0\n");
        for kept in ["active@2025-10-19", "active@2025-10", "active@ever", "active@2026-10-24T15", "active@2025-W42"] {
            assert_eq!(count(kept), "2\n", "{kept}");
        }
        let again = run(&wishes);
        assert_eq!((again.out.as_str(), again.err.as_str()), ("", "nothing has been kept that long\n"));
    }
}

#[test]
fn a_slip_deletes_nothing() {
    let shop = Shop::new();
    fill(&shop, &[]);
    assert!(shop.run(&["expire", "--yes"]).error(2).contains("--hours 30d"));
    for slip in ["30", "30m", "0d", "-1d", "later"] {
        let ran = shop.run(&["expire", &format!("--hours={slip}"), "--yes"]);
        assert_eq!(ran.code, 2, "{slip}");
        assert!(ran.err.contains("such as 36h, 30d, 2w or 1y"), "{}", ran.err);
    }
    assert_eq!(shop.run(&["count", "active@2025-10-18T00"]).done(), "2\n");
}
