//! What a prompt costs, by tiktoken and the documented framing: the oracle, never the filters' own counter.
//!
//! The framing rules are those of openai-cookbook's `How_to_count_tokens_with_tiktoken.ipynb`
//! (`num_tokens_from_messages` and `num_tokens_for_tools`).

use serde_json::Value;
use tiktoken_rs::CoreBPE;

const PER_MESSAGE: usize = 3;
const PER_NAME: usize = 1;
const REPLY: usize = 3;

/// The vocabulary `usage` is counted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// GPT-4o and later.
    O200kBase,
    /// GPT-4, GPT-3.5 and the text-embedding-3 models.
    Cl100kBase,
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Encoding; 2] = [Encoding::O200kBase, Encoding::Cl100kBase];

    /// The name that tiktoken gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::O200kBase => "o200k_base",
            Self::Cl100kBase => "cl100k_base",
        }
    }

    /// Tokens in `text`; text that spells a special token counts as ordinary text.
    pub fn count(self, text: &str) -> usize {
        self.bpe().count_ordinary(text)
    }

    /// Prompt tokens of a chat request: messages and, if there are any, tools.
    pub fn count_chat(self, request: &Value) -> usize {
        let messages = request["messages"].as_array().map_or(&[][..], Vec::as_slice);
        let tools = request["tools"].as_array().map_or(&[][..], Vec::as_slice);
        let framed: usize = messages.iter().map(|message| self.count_message(message)).sum();
        framed + REPLY + self.count_tools(tools)
    }

    /// Tokens of a completion's prompt or an embedding's input: texts, or tokens as such.
    pub(super) fn count_prompt(self, prompt: &Value) -> usize {
        match prompt {
            Value::String(text) => self.count(text),
            Value::Number(_) => 1,
            Value::Array(prompts) => prompts.iter().map(|prompt| self.count_prompt(prompt)).sum(),
            _ => 0,
        }
    }

    /// Tokens of a prompt whose framing is not documented, taken to be framed as a chat: every text under one of these keys.
    pub(super) fn count_framed(self, request: &Value, keys: &[&str]) -> usize {
        let framed = |value: &Value| match value {
            Value::Array(messages) => messages.iter().map(|message| PER_MESSAGE + self.count_texts(message)).sum(),
            Value::String(text) => PER_MESSAGE + self.count(text),
            _ => 0,
        };
        REPLY + keys.iter().map(|key| framed(&request[key])).sum::<usize>()
    }

    fn count_texts(self, value: &Value) -> usize {
        match value {
            Value::String(text) => self.count(text),
            Value::Array(values) => values.iter().map(|value| self.count_texts(value)).sum(),
            Value::Object(fields) => {
                let counts = ["role", "content", "text", "name", "arguments", "output", "input", "thinking"];
                fields
                    .iter()
                    .filter(|(key, _)| counts.contains(&key.as_str()))
                    .map(|(_, value)| self.count_texts(value))
                    .sum()
            }
            _ => 0,
        }
    }

    fn count_message(self, message: &Value) -> usize {
        let Some(fields) = message.as_object() else { return PER_MESSAGE };
        let values: usize = fields.values().map(|value| self.count_value(value)).sum();
        let names = if fields.contains_key("name") { PER_NAME } else { 0 };
        PER_MESSAGE + values + names
    }

    /// A field of a message: a string, or the text parts of a content array.
    fn count_value(self, value: &Value) -> usize {
        match value {
            Value::String(text) => self.count(text),
            Value::Array(parts) => {
                parts.iter().filter_map(|part| part["text"].as_str()).map(|text| self.count(text)).sum()
            }
            _ => 0,
        }
    }

    fn count_tools(self, tools: &[Value]) -> usize {
        const TOOLS_END: usize = 12;
        if tools.is_empty() {
            return 0;
        }
        tools.iter().map(|tool| self.count_function(&tool["function"])).sum::<usize>() + TOOLS_END
    }

    fn count_function(self, function: &Value) -> usize {
        const PROPERTIES: usize = 3;
        const PROPERTY: usize = 3;
        const ENUM_ITEM: usize = 3;
        let function_start = match self {
            Self::O200kBase => 7,
            Self::Cl100kBase => 10,
        };
        let line = format!("{}:{}", string(&function["name"]), sentence(&function["description"]));
        let mut tokens = function_start + self.count(&line);
        let Some(properties) = function["parameters"]["properties"].as_object().filter(|map| !map.is_empty()) else {
            return tokens;
        };
        tokens += PROPERTIES;
        for (name, property) in properties {
            let line = format!("{name}:{}:{}", string(&property["type"]), sentence(&property["description"]));
            tokens += PROPERTY + self.count(&line);
            if let Some(items) = property["enum"].as_array() {
                // The framing takes three tokens off an enum and adds three to each of its items.
                let items_tokens: usize = items.iter().map(|item| ENUM_ITEM + self.count(string(item))).sum();
                tokens = (tokens + items_tokens).saturating_sub(ENUM_ITEM);
            }
        }
        tokens
    }

    fn bpe(self) -> &'static CoreBPE {
        match self {
            Self::O200kBase => tiktoken_rs::o200k_base_singleton(),
            Self::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
        }
    }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A description without its full stop, as the rules have it.
fn sentence(value: &Value) -> &str {
    let text = string(value);
    text.strip_suffix('.').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The cookbook's own example and the number it documents for gpt-4o.
    #[test]
    fn cookbook_messages() {
        let request = json!({"messages": [
            {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
            {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
            {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
            {"role": "system", "name": "example_user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
            {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
            {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
        ]});
        assert_eq!(Encoding::Cl100kBase.count_chat(&request), 129);
        assert_eq!(Encoding::O200kBase.count_chat(&request), 124);
    }

    /// The cookbook's tools example, likewise with the documented numbers.
    #[test]
    fn cookbook_tools() {
        let request = json!({
            "messages": [
                {"role": "system", "content": "You are a helpful assistant that can answer to questions about the weather."},
                {"role": "user", "content": "What's the weather like in San Francisco?"},
            ],
            "tools": [{"type": "function", "function": {
                "name": "get_current_weather",
                "description": "Get the current weather in a given location",
                "parameters": {"type": "object", "properties": {
                    "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
                    "unit": {"type": "string", "description": "The unit of temperature to return", "enum": ["celsius", "fahrenheit"]},
                }, "required": ["location"]},
            }}],
        });
        assert_eq!(Encoding::Cl100kBase.count_chat(&request), 105);
        assert_eq!(Encoding::O200kBase.count_chat(&request), 101);
    }
}
