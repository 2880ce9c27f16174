//! What tool definitions cost: walks their JSON and hands names, types and descriptions to the framing's rule.

use penstock_tokens::Encoding;
use penstock_tokens::framing::Tools;
use penstock_units::Tokens;
use serde_json::Value;

/// How deep schemas are followed.
const DEPTH_MAX: usize = 16;

/// The longest definition that is read; one that is longer, or is no JSON to serde_json, goes by its length.
const BYTES_MAX: usize = 1 << 18;
/// See above.
const BYTES_PER_TOKEN: u64 = 4;

/// The cost of a `tools` array, of functions in the form of any dialect.
pub fn tokens(definition: &[u8], encoding: Encoding) -> Tokens {
    let readable = definition.len() <= BYTES_MAX;
    let tokens = readable.then(|| tokens_of(definition, encoding)).flatten();
    Tokens(tokens.unwrap_or(definition.len() as u64 / BYTES_PER_TOKEN))
}

/// `None` where it cannot be read.
fn tokens_of(definition: &[u8], encoding: Encoding) -> Option<u64> {
    let value: Value = serde_json::from_slice(definition).ok()?;
    let mut tools = Tools::new(encoding);
    for tool in value.as_array()? {
        let function = tool.get("function").unwrap_or(tool);
        tools.function(text(function, "name"), text(function, "description"));
        if let Some(parameters) = function.get("parameters").or_else(|| function.get("input_schema")) {
            object(parameters, &mut tools, DEPTH_MAX);
        }
    }
    Some(tools.tokens())
}

fn object(schema: &Value, tools: &mut Tools, depth: usize) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    if properties.is_empty() || depth == 0 {
        return;
    }
    tools.properties();
    for (name, property) in properties {
        if let Some(values) = property.get("enum").and_then(Value::as_array) {
            tools.values(values.iter().filter_map(Value::as_str));
        }
        tools.property(name, text(property, "type"), text(property, "description"));
        for nested in [Some(property), property.get("items")].into_iter().flatten() {
            object(nested, tools, depth.saturating_sub(1));
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the openai-cookbook, section 7: with its two messages it documents 101 tokens for gpt-4o and 105
    /// for gpt-4. Its messages ("You are a helpful assistant that can answer to questions about the weather.", "What's the
    /// weather like in San Francisco?") cost 37 of them.
    const WEATHER: &str = r#"[{"type":"function","function":{"name":"get_current_weather",
        "description":"Get the current weather in a given location","parameters":{"type":"object","properties":{
        "location":{"type":"string","description":"The city and state, e.g. San Francisco, CA"},
        "unit":{"type":"string","description":"The unit of temperature to return","enum":["celsius","fahrenheit"]}},
        "required":["location"]}}}]"#;

    fn with_messages(encoding: Encoding) -> u64 {
        let texts = [
            "system",
            "You are a helpful assistant that can answer to questions about the weather.",
            "user",
            "What's the weather like in San Francisco?",
        ];
        let messages: u64 = texts.iter().map(|text| encoding.count(text)).sum();
        messages + penstock_tokens::framing::chat(2, 0) + tokens_of(WEATHER.as_bytes(), encoding).unwrap()
    }

    #[test]
    fn the_cookbooks_example() {
        assert_eq!(with_messages(Encoding::O200kBase), 101);
        assert_eq!(with_messages(Encoding::Cl100kBase), 105);
    }

    #[test]
    fn all_dialects_cost_the_same() {
        let of = |text: &str| tokens_of(text.as_bytes(), Encoding::O200kBase);
        let flat = WEATHER.replace(r#""function":{"#, "").replace("}}]", "}]");
        assert_eq!(of(&flat), of(WEATHER));
        assert_eq!(of(&flat.replace("parameters", "input_schema")), of(WEATHER));
    }

    #[test]
    fn nested_schemas_count_and_nonsense_does_not_panic() {
        let nested = WEATHER.replace(
            r#""description":"The city and state, e.g. San Francisco, CA""#,
            r#""items":{"properties":{"city":{"type":"string","description":"A city."}}}"#,
        );
        let (flat, nested) =
            (tokens_of(WEATHER.as_bytes(), Encoding::O200kBase), tokens_of(nested.as_bytes(), Encoding::O200kBase));
        assert!(nested.unwrap() > flat.unwrap() - 13);
        for bad in ["", "7", "[[]]", "[{}]", "{\"function\":1}", &"[".repeat(10_000)] {
            tokens_of(bad.as_bytes(), Encoding::O200kBase);
        }
    }
}
