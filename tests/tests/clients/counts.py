"""Asks the gateway whose address is given what prompts cost and which models there are, with the packages that coding agents use, and
prints what came of it as JSON.
"""

import json
import sys

import anthropic
import openai

url = sys.argv[1]
claude = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60)
client = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=60)
told = {
    "models": [model.id for model in client.models.list()],
    "anthropic_models": [model.id for model in claude.models.list()],
    "model": client.models.retrieve("chat").id,
    "count_tokens": claude.messages.count_tokens(
        model="chat", messages=[{"role": "user", "content": "hello"}]
    ).input_tokens,
    "input_tokens": client.responses.input_tokens.count(model="chat", input="hello").input_tokens,
}
try:
    client.models.retrieve("real")
except openai.APIStatusError as error:
    told["unknown"] = type(error).__name__
print(json.dumps(told))
