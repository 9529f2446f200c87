"""An agent that traces itself. ``agentops sidecar --agent-id traced --tenant demo -- python examples/traced_agent.py`` reports it."""

from sidecar.tracer import AgentTracer

tracer = AgentTracer()


@tracer.trace_tool_call
def search(query: str) -> list[str]:
    return [f"a document about {query}"]


@tracer.trace_llm_call(provider="openai", model="gpt-4o-mini")
def ask(question: str, documents: list[str]) -> dict:
    # In place of ``client.chat.completions.create(…)``, whose answer has this shape.
    return {
        "id": "resp-1",
        "model": "gpt-4o-mini",
        "usage": {"prompt_tokens": 40, "completion_tokens": len(question + documents[0])},
    }


@tracer.trace_agent_call
def answer(question: str) -> dict:
    tracer.add_span_attribute("question_characters", len(question))
    return ask(question, search(question))


if __name__ == "__main__":
    print(answer("JetStream"))
