//! The API's document (OpenAPI 3.1), which is kept by hand in `docs/` and served as it is.

use http::StatusCode;

use super::reply::{self, Reply};

const DOCUMENT: &str = include_str!("../../docs/openapi-kv.json");

/// The answer with the document.
pub(super) fn document() -> Reply {
    reply::typed(StatusCode::OK, "application/json", DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;
    use serde_json::Value;

    use super::DOCUMENT;
    use crate::kv::error::Kind;
    use crate::kv::route::{ROUTES, route};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// What `value` is, or what it refers to.
    fn resolved<'a>(root: &'a Value, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(to) => root.pointer(to.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    #[test]
    fn the_document_and_the_router_have_the_same_routes() {
        let document = document();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if method != "parameters" {
                    let id = operation["operationId"].as_str().unwrap();
                    documented.insert((method.clone(), path.clone(), id.to_owned()));
                }
            }
        }
        let routed: BTreeSet<_> = ROUTES
            .iter()
            .map(|(method, path, operation)| {
                ((*method).to_owned(), (*path).to_owned(), operation.name().to_owned())
            })
            .collect();

        assert_eq!(documented, routed);
    }

    #[test]
    fn the_router_takes_every_route_to_its_operation() {
        for (method, path, operation) in ROUTES {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = path.replace("{bucket}", "b").replace("{key}", "k");

            assert_eq!(route(&method, &path).unwrap().operation, operation, "{method} {path}");
        }
    }

    #[test]
    fn every_query_parameter_is_documented_and_no_other() {
        let document = document();
        for (method, path, operation) in ROUTES {
            let item = &document["paths"][path];
            let of = |value: &Value| value["parameters"].as_array().cloned().unwrap_or_default();
            let all = [of(item), of(&item[method])].concat();
            let documented: BTreeSet<String> = all
                .iter()
                .map(|parameter| resolved(&document, parameter))
                .filter(|parameter| parameter["in"] == "query")
                .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                .collect();
            let taken: BTreeSet<String> =
                operation.parameters().iter().map(|name| (*name).to_owned()).collect();

            assert_eq!(documented, taken, "{method} {path}");
        }
    }

    #[test]
    fn every_error_code_is_documented() {
        let document = document();
        let listed = &document["components"]["schemas"]["Error"]["properties"]["code"]["enum"];
        let listed: BTreeSet<&str> =
            listed.as_array().unwrap().iter().map(|code| code.as_str().unwrap()).collect();
        let ours: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.text()).collect();

        assert_eq!(listed, ours);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut waiting = vec![&document];
        while let Some(value) = waiting.pop() {
            resolved(&document, value);
            match value {
                Value::Object(fields) => waiting.extend(fields.values()),
                Value::Array(items) => waiting.extend(items),
                _ => {}
            }
        }
    }
}
