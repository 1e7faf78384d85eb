"""The official Python SDKs, unmodified, pointed at a gateway by the variables that their documentation names.

Prints one JSON object per line: what was tried, and what came of it. Who judges that is python.test.ts.
"""

import json
import os
import sys

import anthropic
import openai
from pydantic import BaseModel

MODEL = os.environ["MODEL"]
TOOL = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


class Weather(BaseModel):
    city: str
    degrees: int


def say(name, value):
    print(json.dumps({"name": name, "value": value}), flush=True)


def caught(call):
    try:
        call()
    except Exception as error:
        return [type(error).__name__, getattr(error, "status_code", None), getattr(error, "code", None)]
    return None


def openai_sdk():
    client = openai.OpenAI(max_retries=0)
    ask = [{"role": "user", "content": "How warm is Oslo?"}]

    whole = client.chat.completions.create(model=MODEL, messages=ask)
    say("chat", [whole.choices[0].message.content, whole.usage.total_tokens > 0])

    stream = client.chat.completions.create(
        model=MODEL, messages=ask, stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
    say("chat stream", [text, usage is not None and usage.total_tokens > 0])

    tools = [{"type": "function", "function": {"name": "get_temperature", "parameters": TOOL}}]
    call = client.chat.completions.create(model="tool-model", messages=ask, tools=tools).choices[0].message
    say("chat tool", [call.tool_calls[0].function.name, call.tool_calls[0].function.arguments])
    result = {"role": "tool", "tool_call_id": call.tool_calls[0].id, "content": "minus four"}
    done = client.chat.completions.create(model="tool-model", messages=[*ask, call, result], tools=tools)
    say("chat tool result", done.choices[0].message.content)

    parsed = client.chat.completions.parse(model="json-model", messages=ask, response_format=Weather)
    say("chat parsed", parsed.choices[0].message.parsed.model_dump())

    # Not every provider has them: then it is an error that says so, and no vector.
    embed = lambda: client.embeddings.create(model=MODEL, input="Oslo").data[0].embedding
    say("embeddings", caught(embed) or len(embed()) > 0)
    say("models", MODEL in [model.id for model in client.models.list()])

    say("no such model", caught(lambda: client.chat.completions.create(model="nobody", messages=ask)))
    bad = openai.OpenAI(api_key="sk-wrong", max_retries=0)
    say("bad key", caught(lambda: bad.chat.completions.create(model=MODEL, messages=ask)))
    say(
        "broken stream",
        caught(lambda: list(client.chat.completions.create(model="cut-model", messages=ask, stream=True))),
    )

    reply = client.responses.create(model=MODEL, input="How warm is Oslo?")
    say("responses", [reply.output_text, reply.status, reply.usage.total_tokens > 0])
    with client.responses.stream(model=MODEL, input="How warm is Oslo?") as events:
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        say("responses stream", [text, events.get_final_response().output_text])
    legacy = client.completions.create(model=MODEL, prompt="How warm is Oslo?")
    say("completions", legacy.choices[0].text)


def anthropic_sdk():
    client = anthropic.Anthropic(max_retries=0)
    ask = [{"role": "user", "content": "How warm is Oslo?"}]

    whole = client.messages.create(model=MODEL, max_tokens=100, messages=ask)
    said = "".join(block.text for block in whole.content)
    say("messages", [said, whole.stop_reason, whole.usage.output_tokens > 0])
    with client.messages.stream(model=MODEL, max_tokens=100, messages=ask) as stream:
        text = "".join(stream.text_stream)
        say("messages stream", [text, stream.get_final_message().stop_reason])

    tools = [{"name": "get_temperature", "input_schema": TOOL}]
    call = client.messages.create(model="tool-model", max_tokens=100, messages=ask, tools=tools)
    use = next(block for block in call.content if block.type == "tool_use")
    say("messages tool", [call.stop_reason, use.name, use.input])
    result = [{"type": "tool_result", "tool_use_id": use.id, "content": "minus four"}]
    history = [*ask, {"role": "assistant", "content": call.content}, {"role": "user", "content": result}]
    done = client.messages.create(model="tool-model", max_tokens=100, messages=history, tools=tools)
    say("messages tool result", "".join(block.text for block in done.content))
    counted = client.messages.count_tokens(model=MODEL, messages=ask)
    say("count tokens", counted.input_tokens > 0)

    say(
        "messages no such model",
        caught(lambda: client.messages.create(model="nobody", max_tokens=100, messages=ask)),
    )

    def broken():
        with client.messages.stream(model="cut-model", max_tokens=100, messages=ask) as stream:
            list(stream)

    say("messages broken stream", caught(broken))


if __name__ == "__main__":
    {"openai": openai_sdk, "anthropic": anthropic_sdk}[sys.argv[1]]()
