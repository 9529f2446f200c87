"""The OpenAI SDK alone: ``openai_agent.py INSTRUMENTATION SCENARIO …``."""

import importlib
import sys

from exporting import BREAKING, QUESTION, REFUSED, perform, weather

INSTRUMENTATIONS = {
    "genai": "opentelemetry.instrumentation.genai.openai",
    "v2": "opentelemetry.instrumentation.openai_v2",
    "openllmetry": "opentelemetry.instrumentation.openai",
}
if sys.argv[1] != "nothing":
    importlib.import_module(INSTRUMENTATIONS[sys.argv[1]]).OpenAIInstrumentor().instrument()

import openai  # noqa: E402 - instrumented first

MODEL = "gpt-5-mini"
client = openai.OpenAI()
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def ask(question=QUESTION):
    messages = [{"role": "user", "content": question}]
    while True:
        answer = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS).choices[0].message
        if not answer.tool_calls:
            return answer.content
        messages.append(answer.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": call.id, "content": weather("Paris")} for call in answer.tool_calls]


def stream(question=QUESTION, **options: object):
    chunks = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": question}], stream=True, **options)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def embed():
    return len(client.embeddings.create(model="text-embedding-3-small", input="hello").data)


perform(
    {
        "weather": ask,
        "streamed": lambda: stream(stream_options={"include_usage": True}),
        "untold": stream,
        "broken": lambda: stream(BREAKING),
        "refused": lambda: ask(REFUSED),
        "embedded": embed,
    },
    sys.argv[2:],
)
