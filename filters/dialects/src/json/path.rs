//! Where in a document an event stands: the keys above it, as far down as any reader looks.

use core::ops::Range;

use crate::json::lexer::Event;

/// Makes the keys that readers look for. Every other key is [`Field::Other`].
macro_rules! fields {
    ($($variant:ident = $text:literal),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field { $($variant,)* Other }

        impl Field {
            #[inline(never)]
            fn of(key: &str) -> Self {
                // Bytes are told apart by a decision tree, strings by one comparison after another.
                match key.as_bytes() { $($text => Self::$variant,)* _ => Self::Other }
            }

            /// The key.
            pub fn name(self) -> &'static str {
                let text: &[u8] = match self { $(Self::$variant => $text,)* Self::Other => b"" };
                core::str::from_utf8(text).unwrap_or_default()
            }
        }
    };
}

fields! {
    Arguments = b"arguments",
    AudioEmbeds = b"audio_embeds",
    AudioKey = b"audio",
    AudioUrl = b"audio_url",
    Background = b"background",
    BestOf = b"best_of",
    CacheControl = b"cache_control",
    CacheCreationInputTokens = b"cache_creation_input_tokens",
    CacheReadInputTokens = b"cache_read_input_tokens",
    CachedTokens = b"cached_tokens",
    CallId = b"call_id",
    ChatTemplate = b"chat_template",
    ChatTemplateKwargs = b"chat_template_kwargs",
    Choices = b"choices",
    Code = b"code",
    CompletionTokens = b"completion_tokens",
    CompletionTokensDetails = b"completion_tokens_details",
    Content = b"content",
    ContentBlock = b"content_block",
    ContextManagement = b"context_management",
    Conversation = b"conversation",
    Custom = b"custom",
    Data = b"data",
    Delta = b"delta",
    Detail = b"detail",
    DocumentUrl = b"document_url",
    Documents = b"documents",
    Echo = b"echo",
    EncryptedContent = b"encrypted_content",
    Error = b"error",
    FileKey = b"file",
    FileData = b"file_data",
    FileId = b"file_id",
    FileUrl = b"file_url",
    FinishReason = b"finish_reason",
    Format = b"format",
    Function = b"function",
    FunctionCall = b"function_call",
    Functions = b"functions",
    Id = b"id",
    Image = b"image",
    ImageEmbeds = b"image_embeds",
    ImagePil = b"image_pil",
    ImageUrl = b"image_url",
    Images = b"images",
    IncludeUsage = b"include_usage",
    IncompleteDetails = b"incomplete_details",
    Index = b"index",
    Input = b"input",
    InputAudio = b"input_audio",
    InputFile = b"input_file",
    InputImage = b"input_image",
    InputTokens = b"input_tokens",
    InputTokensDetails = b"input_tokens_details",
    InputVideo = b"input_video",
    Instructions = b"instructions",
    ItemKey = b"item",
    MaxCompletionTokens = b"max_completion_tokens",
    MaxOutputTokens = b"max_output_tokens",
    MaxTokens = b"max_tokens",
    MediaType = b"media_type",
    Message = b"message",
    Messages = b"messages",
    MinTokens = b"min_tokens",
    Model = b"model",
    N = b"n",
    NPredict = b"n_predict",
    Name = b"name",
    Object = b"object",
    Output = b"output",
    OutputTokens = b"output_tokens",
    OutputTokensDetails = b"output_tokens_details",
    Part = b"part",
    PartialJson = b"partial_json",
    Prediction = b"prediction",
    PreviousResponseId = b"previous_response_id",
    Prompt = b"prompt",
    PromptEmbeds = b"prompt_embeds",
    PromptTokens = b"prompt_tokens",
    PromptTokensDetails = b"prompt_tokens_details",
    Reason = b"reason",
    Reasoning = b"reasoning",
    ReasoningContent = b"reasoning_content",
    ReasoningDetails = b"reasoning_details",
    ReasoningText = b"reasoning_text",
    ReasoningTokens = b"reasoning_tokens",
    Refusal = b"refusal",
    Response = b"response",
    ResponseFormat = b"response_format",
    ResultKey = b"result",
    Role = b"role",
    Signature = b"signature",
    Source = b"source",
    Status = b"status",
    StopReason = b"stop_reason",
    Stream = b"stream",
    StreamOptions = b"stream_options",
    Suffix = b"suffix",
    Summary = b"summary",
    System = b"system",
    Text = b"text",
    Thinking = b"thinking",
    ThinkingBlocks = b"thinking_blocks",
    ToolCallId = b"tool_call_id",
    ToolCalls = b"tool_calls",
    ToolUseId = b"tool_use_id",
    Tools = b"tools",
    Transcript = b"transcript",
    TruncatePromptTokens = b"truncate_prompt_tokens",
    Truncation = b"truncation",
    Type = b"type",
    Url = b"url",
    Usage = b"usage",
    Uuid = b"uuid",
    Video = b"video",
    VideoEmbeds = b"video_embeds",
    VideoUrl = b"video_url",
}

impl Field {
    /// The field that a reader takes this key, which is none, for where it does not tell capital letters from small ones, as Go's `encoding/json` does not.
    /// To that the long s and the sign for kelvin are letters as well (Unicode's simple case folding).
    pub fn but_for_case(key: &str) -> Self {
        let is_plain = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
        if key.bytes().all(is_plain) {
            return Self::Other;
        }
        let folded = key.chars().map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        });
        Self::of(&folded.collect::<String>())
    }
}

/// One step down from the document's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into an array.
    Item,
    /// Into an object, under this key.
    Key(Field),
}

/// An event, and where it stands.
#[derive(Clone, Debug)]
pub struct At<'a> {
    /// The way from the document's root to the value, or to the value that a key is that of.
    pub steps: &'a [Step],
    /// The event.
    pub event: &'a Event<'a>,
    /// Which bytes of the document it is: of a text all from its opening quote on.
    pub span: &'a Range<usize>,
}

/// How many steps are known at most.
pub const STEPS_MAX: usize = 12;

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
    #[inline]
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

    /// Another document begins.
    pub fn rewind(&mut self) {
        self.depth = 0;
    }

    /// The way from the root to the current value.
    pub fn steps(&self) -> &[Step] {
        self.steps.get(..self.depth.min(STEPS_MAX)).unwrap_or_default()
    }
}
