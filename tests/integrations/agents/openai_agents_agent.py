"""The OpenAI Agents SDK: ``openai_agents_agent.py INSTRUMENTATION[-chat] SCENARIO …``."""

import sys

from exporting import BREAKING, QUESTION, REFUSED, perform, weather

if "openinference" in sys.argv[1]:
    from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument()
else:
    from agents import set_trace_processors
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor

    # Without this the SDK sends its traces to OpenAI, too.
    set_trace_processors([])
    OpenAIAgentsInstrumentor().instrument()
    OpenAIInstrumentor().instrument()

from agents import Agent, ModelSettings, Runner, function_tool, set_default_openai_api

if "chat" in sys.argv[1]:
    set_default_openai_api("chat_completions")


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


agent = Agent(
    name="weather",
    model="gpt-5-mini",
    instructions="Be brief.",
    tools=[get_weather],
    model_settings=ModelSettings(include_usage=True),
)


async def ask(question=QUESTION):
    return (await Runner.run(agent, question)).final_output


async def stream(question=QUESTION):
    running = Runner.run_streamed(agent, question)
    async for _ in running.stream_events():
        pass
    return running.final_output


perform(
    {"weather": ask, "streamed": stream, "broken": lambda: stream(BREAKING), "refused": lambda: ask(REFUSED)},
    sys.argv[2:],
)
