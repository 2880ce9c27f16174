//! What tool definitions cost: walks their JSON and hands names, types and descriptions to the framing's rule. What that rule does not look
//! at, such as the definitions that a schema refers to, goes by its length: servers write it out all the same.

use penstock_tokens::Encoding;
use penstock_tokens::framing::{self, Tools};
use penstock_units::Tokens;
use serde::de::{self, Deserialize, Deserializer};
use serde_json::Value;

/// How deep schemas are followed.
const DEPTH_MAX: usize = 16;

/// The longest definition that is read; one that is longer, or is no JSON to serde_json, goes by its length.
const BYTES_MAX: usize = 1 << 18;
/// How many bytes of a tool cost nothing beside as many as the rule has looked at: the keys of schemas, `required` and such.
const KEYWORDS: u64 = 128;

/// The cost of a `tools` array, of functions in the form of any dialect.
pub fn tokens(definition: &[u8], encoding: Encoding) -> Tokens {
    let readable = definition.len() <= BYTES_MAX;
    let tokens = readable.then(|| tokens_of(definition, encoding)).flatten();
    Tokens(tokens.unwrap_or_else(|| framing::bytes(definition.len() as u64)))
}

/// `None` where it cannot be read.
fn tokens_of(definition: &[u8], encoding: Encoding) -> Option<u64> {
    let value: Value = serde_json::from_slice(definition).ok()?;
    let Bytes(all) = serde_json::from_slice(definition).ok()?;
    let mut seen = Seen { tools: Tools::new(encoding), bytes: 0 };
    for tool in value.as_array()? {
        let function = tool.get("function").unwrap_or(tool);
        let (name, description) = (text(function, "name"), text(function, "description"));
        seen.tools.function(name, description);
        seen.saw([name, description]);
        seen.bytes = seen.bytes.saturating_add(KEYWORDS / 2);
        if let Some(parameters) = function.get("parameters").or_else(|| function.get("input_schema")) {
            object(parameters, &mut seen, DEPTH_MAX);
        }
    }
    let unseen = all.saturating_sub(seen.bytes.saturating_mul(2));
    Some(seen.tools.tokens().saturating_add(framing::bytes(unseen)))
}

/// What the rule has looked at.
struct Seen {
    tools: Tools,
    bytes: u64,
}

impl Seen {
    fn saw<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        let bytes: usize = texts.into_iter().map(str::len).sum();
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

fn object(schema: &Value, seen: &mut Seen, depth: usize) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    if properties.is_empty() || depth == 0 {
        return;
    }
    seen.tools.properties();
    for (name, property) in properties {
        if let Some(values) = property.get("enum").and_then(Value::as_array) {
            seen.tools.values(values.iter().filter_map(Value::as_str));
            seen.saw(values.iter().filter_map(Value::as_str));
        }
        let (kind, description) = (text(property, "type"), text(property, "description"));
        seen.tools.property(name, kind, description);
        seen.saw([name, kind, description]);
        for nested in [Some(property), property.get("items")].into_iter().flatten() {
            object(nested, seen, depth.saturating_sub(1));
        }
    }
}

/// The bytes of all keys and texts of a JSON value, those of equal keys included.
struct Bytes(u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> de::Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
        Ok(Bytes(text.len() as u64))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Bytes, E> {
        Ok(Bytes(0))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Bytes, E> {
        Ok(Bytes(0))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Bytes, E> {
        Ok(Bytes(0))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Bytes, E> {
        Ok(Bytes(0))
    }

    fn visit_unit<E>(self) -> Result<Bytes, E> {
        Ok(Bytes(0))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Bytes, A::Error> {
        let mut all = 0u64;
        while let Some(Bytes(bytes)) = items.next_element()? {
            all = all.saturating_add(bytes);
        }
        Ok(Bytes(all))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut members: A) -> Result<Bytes, A::Error> {
        let mut all = 0u64;
        while let Some((Bytes(key), Bytes(value))) = members.next_entry()? {
            all = all.saturating_add(key).saturating_add(value);
        }
        Ok(Bytes(all))
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

    #[test]
    fn what_the_rule_does_not_look_at_goes_by_its_length() {
        let of = |text: &str| tokens_of(text.as_bytes(), Encoding::O200kBase).unwrap();
        let long = "a long text ".repeat(1000);
        for hidden in [
            r#""$defs":{"x":{"description":"TEXT"}}"#,
            r#""anyOf":[{"title":"TEXT"}]"#,
            r#""TEXT":1"#,
            r#""properties":{"a":{"default":["TEXT"]}}"#,
            r#""description":"TEXT","description":"""#,
        ] {
            let tools = format!(r#"[{{"name":"f","parameters":{{{hidden}}}}}]"#).replace("TEXT", &long);
            assert!(of(&tools) >= 2_900, "{hidden}: {}", of(&tools));
        }
        let custom =
            r#"[{"type":"custom","custom":{"name":"f","format":{"definition":"TEXT"}}}]"#.replace("TEXT", &long);
        assert!(of(&custom) >= 2_900);
        // What real definitions have beside is free.
        let strict = WEATHER
            .replace(r#""required":["location"]"#, r#""required":["location","unit"],"additionalProperties":false"#);
        assert_eq!(of(&strict), of(WEATHER));
        let many = format!("[{}]", vec![&WEATHER[1..WEATHER.len() - 1]; 50].join(","));
        assert_eq!(of(&many), 50 * (of(WEATHER) - 12) + 12);
    }
}
