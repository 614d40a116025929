//! The JSON schema of all reports, written from the types themselves.
//!
//! `NTPD_BLESS=1 cargo test -p ntpd schema` writes it anew.

use std::{fs, path::Path};

use schemars::{generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::{Value, json};

use super::*;

/// One document: the type of `/status.json`, whose parts are what each report's `--json` prints.
fn schema() -> String {
    // Docstrings name types of this program, which mean nothing to those who read JSON.
    let plain = |schema: &mut schemars::Schema| {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
            if let Some((before, link)) = text.split_once("](") {
                let rest = link.split_once(')').map_or("", |(_, rest)| rest);
                *text = format!("{before}{rest}").replace("[`", "`");
            }
        }
    };
    let settings =
        SchemaSettings::draft2020_12().for_serialize().with(|s| s.transforms.push(Box::new(RecursiveTransform(plain))));
    let mut schema = settings.into_generator().into_root_schema_for::<StatusReport>();
    schema.insert("title".to_owned(), json!("Reports of ntpd"));
    serde_json::to_string_pretty(&schema).unwrap() + "\n"
}

#[test]
fn the_schema_in_the_guide_is_that_of_the_reports() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/schema/status.json");
    let wanted = schema();
    if std::env::var_os("NTPD_BLESS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, &wanted).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "docs/guide/schema/status.json is not what the reports are; NTPD_BLESS=1 writes it anew");
    let value: Value = serde_json::from_str(&wanted).unwrap();
    for report in
        ["tracking", "sources", "sourcestats", "selectdata", "authdata", "ntpdata", "serverstats", "activity", "pools"]
    {
        assert!(value["properties"][report]["$ref"].is_string(), "{report}");
    }
}

/// Every key of a real document is described, and every key that must be there is; `tests/interop/observe.py` has an
/// independent program judge the rest.
#[test]
fn a_real_document_has_the_keys_of_the_schema() {
    fn check(value: &Value, schema: &Value, root: &Value, path: &str) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => root.pointer(reference.trim_start_matches('#')).expect("a definition"),
            None => schema,
        };
        match value {
            Value::Object(table) if schema["properties"].is_object() => {
                let known = schema["properties"].as_object().unwrap();
                let missing = schema["required"].as_array().into_iter().flatten();
                missing.for_each(|key| assert!(table.contains_key(key.as_str().unwrap()), "{path}: no {key}"));
                for (key, value) in table {
                    let inner = known.get(key).unwrap_or_else(|| panic!("{path}.{key} is not described"));
                    check(value, inner, root, &format!("{path}.{key}"));
                }
            }
            Value::Array(items) => items.iter().for_each(|item| check(item, &schema["items"], root, path)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {}
        }
    }
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    check(&serde_json::to_value(tests::busy_status()).unwrap(), &schema, &schema, "");
}
