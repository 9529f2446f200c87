"""pydantic-ai: ``pydantic_ai_agent.py MODEL SCENARIO …``."""

import sys

from exporting import BREAKING, QUESTION, REFUSED, perform, weather
from pydantic_ai import Agent

Agent.instrument_all()

MODEL = sys.argv[1]
agent = Agent(MODEL, name="weather", instructions="Be brief.")


@agent.tool_plain
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


async def ask(question=QUESTION):
    return (await agent.run(question)).output


async def stream(question=QUESTION):
    async with agent.run_stream(question) as running:
        return [said async for said in running.stream_text()][-1]


async def nested():
    """An agent that asks another one by a tool."""
    boss = Agent(MODEL, name="boss")

    @boss.tool_plain(name="get_weather")
    async def ask_the_other(city: str) -> str:
        return await ask(f"What is the weather in {city}?")

    return (await boss.run("Ask about the weather in Paris")).output


perform(
    {"weather": ask, "streamed": stream, "broken": lambda: stream(BREAKING), "refused": lambda: ask(REFUSED), "nested": nested},
    sys.argv[2:],
)
