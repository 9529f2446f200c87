"""LangGraph and LangChain: ``langgraph_agent.py INSTRUMENTATIONS SCENARIO …``; ``openinference+genai`` watches the same call twice."""

import sys

from exporting import BREAKING, QUESTION, REFUSED, perform, weather
from openinference.instrumentation.langchain import LangChainInstrumentor

LangChainInstrumentor().instrument()
if "genai" in sys.argv[1]:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    OpenAIInstrumentor().instrument()

from langchain.agents import create_agent  # noqa: E402 - instrumented first
from langchain_core.tools import tool  # noqa: E402
from langchain_openai import ChatOpenAI  # noqa: E402

# With a base URL of its own LangChain does not ask for the usage of streams, unless told to.
model = ChatOpenAI(model="gpt-5-mini", max_retries=0, stream_usage=True)


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


agent = create_agent(model, [get_weather], name="weather")


def ask(question=QUESTION):
    return agent.invoke({"messages": [("user", question)]})["messages"][-1].content


def stream(question=QUESTION):
    chunks = agent.stream({"messages": [("user", question)]}, stream_mode="messages")
    return "".join(chunk.content for chunk, _ in chunks if chunk.type == "AIMessageChunk" and isinstance(chunk.content, str))


perform(
    {"weather": ask, "streamed": stream, "broken": lambda: stream(BREAKING), "refused": lambda: ask(REFUSED)},
    sys.argv[2:],
)
