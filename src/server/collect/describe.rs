//! The addresses of analytics libraries in the OpenAPI description.

use serde_json::{Map, Value as Json, json};

use super::call::ROUTES;

/// Returns an entry for each address.
pub fn paths() -> Map<String, Json> {
    let answer = |description: &str| json!({ "description": description });
    let operation = |path: &str, method: &str, library: &str| {
        let id = path.replace('/', "_");
        json!({
            "operationId": format!("collect{id}_{method}"),
            "tags": ["Analytics libraries"],
            "summary": format!("Record events of libraries of {library}"),
            "security": [],
            "responses": {
                "200": answer("Recorded, or ignored as it should be. The answer has the form of the library."),
                "400": answer("Not valid, or events are wrong."),
                "401": answer("The write key is wrong or missing."),
                "403": answer("The store is read-only or has numeric ids, or the page is of another site."),
                "408": { "$ref": "#/components/responses/Stalled" },
                "413": answer("The body is too long, or has too many events."),
                "421": { "$ref": "#/components/responses/Misdirected" },
                "429": answer("Too many large bodies at once: send it again."),
                "503": answer("The store cannot be written: send it again."),
            },
        })
    };
    let entry = |(path, call): &(&str, super::call::Call)| {
        let library = call.library();
        let mut post = operation(path, "post", library);
        post["requestBody"] = json!({ "content": { "application/json": {
            "schema": { "type": ["object", "array"] },
        } } });
        let mut entry = json!({ "post": post });
        if call.is_readable() {
            let mut get = operation(path, "get", library);
            get["parameters"] = json!([{
                "name": "data",
                "in": "query",
                "description": "The body, as JSON or base64.",
                "schema": { "type": "string" },
            }]);
            entry["get"] = get;
        }
        (path.to_string(), entry)
    };
    ROUTES.iter().map(entry).collect()
}
