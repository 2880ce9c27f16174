"""Makes the chat calls that it reads as JSON from stdin with the openai package, and prints what each came to as a JSON array.

A plan is {"base_url", "concurrency", "calls": [{"request", "headers", "abort_after"}]}: `request` holds the arguments of
`chat.completions.create`, and a call with `abort_after` hangs up after so many chunks of its stream.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import openai

plan = json.load(sys.stdin)
# One client for all calls, as an application has: making one takes longer than a call.
client = openai.OpenAI(base_url=plan["base_url"], api_key="none", max_retries=0, timeout=60)


def call(spec):
    try:
        raw = client.chat.completions.with_raw_response.create(
            **spec["request"], extra_headers=spec.get("headers", {})
        )
        outcome = {"status": raw.status_code, "headers": lower(raw.headers)}
        if spec["request"].get("stream"):
            read_stream(raw.parse(), outcome, spec.get("abort_after"))
        else:
            answer = raw.parse()
            outcome["text"] = answer.choices[0].message.content
            outcome["usage"] = answer.usage.model_dump() if answer.usage else None
        return outcome
    except openai.APIStatusError as error:
        return {
            "status": error.status_code,
            "headers": lower(error.response.headers),
            "error": type(error).__name__,
            "body": error.response.json(),
        }
    except Exception as error:  # A broken stream surfaces as an exception of the HTTP library below.
        return {"status": 0, "headers": {}, "error": type(error).__name__, "message": str(error)}


def read_stream(stream, outcome, abort_after):
    outcome.update(text="", usage=None, chunks=0)
    try:
        for chunk in stream:
            outcome["chunks"] += 1
            if chunk.choices:
                outcome["text"] += chunk.choices[0].delta.content or ""
            if chunk.usage:
                outcome["usage"] = chunk.usage.model_dump()
            if abort_after is not None and outcome["chunks"] >= abort_after:
                stream.close()
                return
    except Exception as error:
        outcome["error"] = type(error).__name__


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


with ThreadPoolExecutor(plan["concurrency"]) as pool:
    json.dump(list(pool.map(call, plan["calls"])), sys.stdout)
