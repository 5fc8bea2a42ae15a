//! Every report is reached in every way: a page, files, a command, the API, its description, the
//! documentation. All of it follows from `cohortist::endpoints::ALL`.

use std::process::Command;

use cohortist::endpoints;
use cohortist::reports::Kind;

use crate::http::read;
use crate::support::web::{now, product, serve};

/// A value that a field accepts.
fn value(name: &str, kind: Kind) -> String {
    match kind {
        Kind::Segment => "active".to_owned(),
        Kind::Set => "active@2026-11-23".to_owned(),
        Kind::Text if name == "id" => "1".to_owned(),
        Kind::Text => String::new(),
        Kind::Date => now().format("%Y-%m-%d").to_string(),
        Kind::Number(least, _) => least.to_string(),
        Kind::Word(words) => words[0].to_owned(),
    }
}

#[test]
fn every_report_has_a_page_files_a_command_an_api_entry_and_documentation() {
    let base = format!("http://{}", serve(product(40, 10)));
    let described: serde_json::Value =
        serde_json::from_str(&read(&format!("{base}/api/v1/openapi.json")).body).unwrap();
    let docs = include_str!("../../docs/reference/command-line.md");
    let addresses = include_str!("../../docs/reference/addresses.md");
    for endpoint in endpoints::ALL {
        let name = endpoint.name();
        let fields = endpoint.fields().iter();
        let required = fields.filter(|field| field.arity.is_required());
        let given: Vec<(&str, String)> = required
            .map(|field| (field.name, value(field.name, field.kind)))
            .collect();
        let query: Vec<String> = given.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let query = query.join("&");

        let page = read(&format!("{base}/{name}?{query}"));
        assert!(
            [200, 302].contains(&page.status),
            "/{name}: {}",
            page.status
        );
        for (ending, content) in [
            ("csv", "text/csv"),
            ("tidy.csv", "text/csv"),
            ("json", "application/json"),
        ] {
            let file = read(&format!("{base}/{name}.{ending}?{query}"));
            assert_eq!(file.status, 200, "/{name}.{ending}: {}", file.body);
            assert!(
                file.header("content-type").starts_with(content),
                "/{name}.{ending}"
            );
        }
        let api = read(&format!("{base}/api/v1/{name}?{query}"));
        assert_eq!(api.status, 200, "/api/v1/{name}: {}", api.body);
        serde_json::from_str::<serde_json::Value>(&api.body).unwrap();
        let entry = &described["paths"][format!("/api/v1/{name}")]["get"];
        for field in endpoint.fields() {
            let parameters = entry["parameters"].as_array();
            let known = parameters.is_some_and(|all| all.iter().any(|p| p["name"] == field.name));
            // The list of events takes no parameters in the API.
            assert!(known || name == "events", "{name}: {}", field.name);
        }

        let help = Command::new(env!("CARGO_BIN_EXE_cohortist"))
            .args([name, "--help"])
            .output();
        assert!(help.unwrap().status.success(), "cohortist {name} --help");
        assert!(
            docs.contains(&format!("`{name}`")) || docs.contains(&format!("cohortist {name}")),
            "{name} in the docs"
        );
        assert!(
            addresses.contains(&format!("/{name}")),
            "/{name} in the docs"
        );
        assert!(endpoint.description().about.chars().count() <= 80, "{name}");
        for field in endpoint.fields() {
            assert!(field.help.chars().count() <= 80, "{name}: {}", field.help);
        }
    }
}
