"""Makes the calls that it reads as JSON from stdin with the openai and anthropic packages, and prints all that the packages gave for each.

A plan is {"base_url", "calls": [{"sdk", "method", "arguments"}]}: `method` is a path such as "chat.completions.create". Every call is made
with the package's synchronous and with its asynchronous client, one after the other.
"""

import asyncio
import json
import sys

import anthropic
import openai

plan = json.load(sys.stdin)
settings = {"api_key": "none", "max_retries": 0, "timeout": 60}
openai_url = plan["base_url"] + "/v1"
SYNC = {
    "openai": openai.OpenAI(base_url=openai_url, **settings),
    "anthropic": anthropic.Anthropic(base_url=plan["base_url"], **settings),
}


def method(clients, call):
    found = clients[call["sdk"]]
    for name in call["method"].split("."):
        found = getattr(found, name)
    return found


def dump(answer):
    return answer.model_dump(mode="json")


def failure(error):
    outcome = {"error": type(error).__name__}
    if isinstance(error, (openai.APIStatusError, anthropic.APIStatusError)):
        outcome.update(status=error.status_code, body=error.body)
    return outcome


def synchronous(call):
    try:
        answer = method(SYNC, call)(**call["arguments"])
        if call["arguments"].get("stream") or call["method"].endswith("list"):
            return [dump(event) for event in answer]
        return dump(answer)
    except Exception as error:
        return failure(error)


async def asynchronous(clients, call):
    try:
        answer = method(clients, call)(**call["arguments"])
        if call["method"].endswith("list"):
            return [dump(event) async for event in answer]
        answer = await answer
        if call["arguments"].get("stream"):
            return [dump(event) async for event in answer]
        return dump(answer)
    except Exception as error:
        return failure(error)


async def every_asynchronous(calls):
    clients = {
        "openai": openai.AsyncOpenAI(base_url=openai_url, **settings),
        "anthropic": anthropic.AsyncAnthropic(base_url=plan["base_url"], **settings),
    }
    return [await asynchronous(clients, call) for call in calls]


answers = [synchronous(call) for call in plan["calls"]]
answers += asyncio.run(every_asynchronous(plan["calls"]))
json.dump(answers, sys.stdout)
