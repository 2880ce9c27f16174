//! Where in a document an event stands: the keys above it, as far down as any reader looks.

use crate::json::Event;

/// The keys that readers look for. Every other key is [`Field::Other`].
macro_rules! names {
    ($($variant:ident = $text:literal),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($variant,)* Other }

        impl Field {
            fn of(key: &str) -> Self {
                match key { $($text => Self::$variant,)* _ => Self::Other }
            }
        }
    };
}

names! {
    Arguments = "arguments",
    BestOf = "best_of",
    CacheCreationInputTokens = "cache_creation_input_tokens",
    CacheReadInputTokens = "cache_read_input_tokens",
    CachedTokens = "cached_tokens",
    Choices = "choices",
    CompletionTokens = "completion_tokens",
    CompletionTokensDetails = "completion_tokens_details",
    Content = "content",
    ContentBlock = "content_block",
    Conversation = "conversation",
    Data = "data",
    Delta = "delta",
    Detail = "detail",
    Error = "error",
    FinishReason = "finish_reason",
    Format = "format",
    Function = "function",
    ImageUrl = "image_url",
    IncludeUsage = "include_usage",
    IncompleteDetails = "incomplete_details",
    Index = "index",
    Input = "input",
    InputTokens = "input_tokens",
    InputTokensDetails = "input_tokens_details",
    Instructions = "instructions",
    ItemKey = "item",
    MaxCompletionTokens = "max_completion_tokens",
    MaxOutputTokens = "max_output_tokens",
    MaxTokens = "max_tokens",
    MediaType = "media_type",
    Message = "message",
    Messages = "messages",
    MinTokens = "min_tokens",
    Model = "model",
    N = "n",
    Name = "name",
    Object = "object",
    Output = "output",
    OutputTokens = "output_tokens",
    OutputTokensDetails = "output_tokens_details",
    PartialJson = "partial_json",
    PreviousResponseId = "previous_response_id",
    Prompt = "prompt",
    PromptTokens = "prompt_tokens",
    PromptTokensDetails = "prompt_tokens_details",
    Reasoning = "reasoning",
    ReasoningContent = "reasoning_content",
    ReasoningTokens = "reasoning_tokens",
    Reason = "reason",
    Refusal = "refusal",
    Response = "response",
    ResponseFormat = "response_format",
    Role = "role",
    Source = "source",
    Status = "status",
    StopReason = "stop_reason",
    Stream = "stream",
    StreamOptions = "stream_options",
    Suffix = "suffix",
    Summary = "summary",
    System = "system",
    Text = "text",
    Thinking = "thinking",
    ToolCalls = "tool_calls",
    Tools = "tools",
    Type = "type",
    Url = "url",
    Usage = "usage",
}

/// One step down from the document's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into an array.
    Item,
    /// Into an object, under this key.
    Key(Field),
}

const STEPS_MAX: usize = 8;

/// The steps down to the current value. Of values below [`STEPS_MAX`] levels only the first steps are known.
#[derive(Clone, Copy)]
pub struct Path {
    steps: [Step; STEPS_MAX],
    depth: usize,
}

impl Default for Path {
    fn default() -> Self {
        Self { steps: [Step::Item; STEPS_MAX], depth: 0 }
    }
}

impl Path {
    /// Keeps up with the lexer. To be called before an event is looked at, except that a `Close` then stands at the
    /// container that it closes.
    pub fn follow(&mut self, event: &Event<'_>) {
        match event {
            Event::Close => self.depth = self.depth.saturating_sub(1),
            Event::Key(key) => {
                if let Some(step) = self.depth.checked_sub(1).and_then(|i| self.steps.get_mut(i)) {
                    *step = Step::Key(Field::of(key));
                }
            }
            _ => {}
        }
    }

    /// To be called after an event was looked at: enters the container that it opened.
    pub fn enter(&mut self, event: &Event<'_>) {
        if let Event::Object | Event::Array = event {
            if let Some(step) = self.steps.get_mut(self.depth) {
                *step = match event {
                    Event::Array => Step::Item,
                    _ => Step::Key(Field::Other),
                };
            }
            self.depth = self.depth.saturating_add(1);
        }
    }

    /// The way from the root to the current value.
    pub fn steps(&self) -> &[Step] {
        self.steps.get(..self.depth.min(STEPS_MAX)).unwrap_or_default()
    }
}
