"""What attributes mean, by convention: one table. Nothing else in the package knows an attribute's name.

Of the rows of one field the first that a span carries counts, so current names stand before the ones they replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Convention = Literal[
    "semconv", "semconv-old", "openinference", "openllmetry", "vercel", "pydantic-ai", "openlit", "mcp", "agentops", "general",
]  # fmt: skip

Field = Literal[
    "operation", "provider", "host", "model", "model_asked", "response_id", "finish_reason", "streamed", "service_tier",
    "first_chunk_s", "first_chunk_ms",
    "input", "input_uncached", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "total", "input_audio", "output_audio",
    "cache_read_audio", "web_searches", "cost_usd",
    "tool", "tool_call_id", "agent", "workflow", "step", "run_id", "agent_id", "project", "workspace",
    "error_type", "error_code", "error_message",
    "mcp_method", "system", "span_type",
    "evaluation", "score", "score_label",
    "input_messages", "output_messages", "instructions", "arguments", "result", "prompt", "completion", "input_value",
    "output_value",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute."""

    attribute: str
    field: Field
    convention: Convention


def _rows(convention: Convention, **fields: str) -> tuple[Row, ...]:
    """Rows of one convention; a field's attributes are separated by spaces."""
    return tuple(Row(name, field, convention) for field, names in fields.items() for name in names.split())  # type: ignore[arg-type]


ROWS: Final[tuple[Row, ...]] = (
    *_rows(
        "agentops",
        run_id="agentops.run_id",
        agent_id="agentops.agent_id",
        project="agentops.project",
        workspace="agentops.workspace",
    ),
    # The SDK's own span names come before the OpenTelemetry names it adds to them: those do not tell a wrapper from a call.
    *_rows("vercel", operation="ai.operationId"),
    *_rows(
        "semconv",
        operation="gen_ai.operation.name",
        provider="gen_ai.provider.name",
        model="gen_ai.response.model",
        model_asked="gen_ai.request.model",
        response_id="gen_ai.response.id",
        finish_reason="gen_ai.response.finish_reasons",
        streamed="gen_ai.request.stream",
        service_tier="openai.response.service_tier openai.request.service_tier",
        first_chunk_s="gen_ai.response.time_to_first_chunk gen_ai.client.operation.time_to_first_chunk",
        input="gen_ai.usage.input_tokens",
        output="gen_ai.usage.output_tokens",
        cache_read="gen_ai.usage.cache_read.input_tokens",
        cache_write="gen_ai.usage.cache_write.input_tokens gen_ai.usage.cache_creation.input_tokens",
        reasoning="gen_ai.usage.reasoning.output_tokens",
        input_audio="gen_ai.usage.audio.input_tokens",
        output_audio="gen_ai.usage.audio.output_tokens",
        tool="gen_ai.tool.name",
        tool_call_id="gen_ai.tool.call.id",
        agent="gen_ai.agent.name gen_ai.agent.id",
        workflow="gen_ai.workflow.name",
        evaluation="gen_ai.evaluation.name",
        score="gen_ai.evaluation.score.value",
        score_label="gen_ai.evaluation.score.label",
        input_messages="gen_ai.input.messages",
        output_messages="gen_ai.output.messages",
        instructions="gen_ai.system_instructions",
        arguments="gen_ai.tool.call.arguments",
        result="gen_ai.tool.call.result",
    ),
    *_rows(
        "semconv-old",
        provider="gen_ai.system",
        service_tier="gen_ai.openai.response.service_tier gen_ai.openai.request.service_tier",
        finish_reason="gen_ai.response.finish_reason",
        first_chunk_s="gen_ai.server.time_to_first_token",
        input="gen_ai.usage.prompt_tokens",
        output="gen_ai.usage.completion_tokens",
        cache_read="gen_ai.usage.cache_read_input_tokens gen_ai.usage.cached_input_tokens gen_ai.usage.input_tokens.cached",
        cache_write="gen_ai.usage.cache_write_input_tokens gen_ai.usage.cache_creation_input_tokens",
        reasoning="gen_ai.usage.reasoning_tokens gen_ai.usage.output_tokens.reasoning",
        prompt="gen_ai.prompt gen_ai.content.prompt",
        completion="gen_ai.completion gen_ai.content.completion",
    ),
    *_rows(
        "openinference",
        operation="openinference.span.kind",
        provider="llm.provider llm.system decision.provider decision.system",
        model="llm.response.model_name llm.model_name embedding.model_name decision.response.model_name decision.model_name",
        model_asked="llm.request.model_name decision.request.model_name",
        finish_reason="llm.finish_reason",
        input="llm.token_count.prompt decision.token_count.input",
        output="llm.token_count.completion decision.token_count.output",
        cache_read="llm.token_count.prompt_details.cache_read llm.token_count.prompt_details.cache_input",
        cache_write="llm.token_count.prompt_details.cache_write",
        reasoning="llm.token_count.completion_details.reasoning",
        total="llm.token_count.total",
        input_audio="llm.token_count.prompt_details.audio",
        output_audio="llm.token_count.completion_details.audio",
        cost_usd="llm.cost.total",
        tool="tool.name",
        tool_call_id="tool_call.id tool.id",
        agent="agent.name",
        step="graph.node.name",
        arguments="tool.parameters",
        input_value="input.value",
        output_value="output.value",
    ),
    *_rows(
        "openllmetry",
        operation="traceloop.span.kind llm.request.type",
        finish_reason="llm.response.finish_reason llm.response.stop_reason gen_ai.response.stop_reason",
        streamed="gen_ai.is_streaming llm.is_streaming",
        total="gen_ai.usage.total_tokens llm.usage.total_tokens",
        reasoning="llm.usage.reasoning_tokens",
        workflow="traceloop.workflow.name",
        step="traceloop.entity.name",
        input_value="traceloop.entity.input",
        output_value="traceloop.entity.output",
    ),
    *_rows(
        "vercel",
        provider="ai.model.provider",
        model="ai.response.model ai.model.id",
        response_id="ai.response.id",
        finish_reason="ai.response.finishReason",
        first_chunk_ms="ai.response.msToFirstChunk ai.stream.msToFirstChunk",
        input="ai.usage.inputTokens ai.usage.promptTokens ai.usage.tokens",
        input_uncached="ai.usage.inputTokenDetails.noCacheTokens",
        output="ai.usage.outputTokens ai.usage.completionTokens",
        cache_read="ai.usage.inputTokenDetails.cacheReadTokens ai.usage.cachedInputTokens",
        cache_write="ai.usage.inputTokenDetails.cacheWriteTokens ai.usage.cacheCreationInputTokens",
        reasoning="ai.usage.outputTokenDetails.reasoningTokens ai.usage.reasoningTokens",
        total="ai.usage.totalTokens",
        tool="ai.toolCall.name",
        tool_call_id="ai.toolCall.id",
        step="ai.telemetry.functionId",
        input_messages="ai.prompt.messages",
        output_messages="ai.response.toolCalls",
        arguments="ai.toolCall.args ai.toolCall.input",
        result="ai.toolCall.result ai.toolCall.output",
        prompt="ai.prompt ai.value ai.values",
        completion="ai.response.text ai.response.object ai.embedding ai.embeddings",
    ),
    *_rows(
        "pydantic-ai",
        cache_read="gen_ai.usage.details.cache_read_tokens gen_ai.usage.details.cached_tokens",
        cache_write="gen_ai.usage.details.cache_write_tokens",
        cache_write_1h="gen_ai.usage.details.cache_write_1h_tokens",
        reasoning="gen_ai.usage.details.reasoning_tokens gen_ai.usage.details.output_reasoning_tokens gen_ai.usage.details.thoughts_tokens",
        input_audio="gen_ai.usage.details.input_audio_tokens",
        output_audio="gen_ai.usage.details.output_audio_tokens",
        cache_read_audio="gen_ai.usage.details.cache_audio_read_tokens",
        web_searches="gen_ai.usage.details.web_search_requests",
        cost_usd="operation.cost",
        agent="agent_name",
        span_type="logfire.span_type",
        input_messages="pydantic_ai.all_messages all_messages_events events request_data",
        output_messages="response_data",
        output_value="final_result",
        arguments="tool_arguments",
        result="tool_response",
    ),
    *_rows("openlit", cost_usd="gen_ai.usage.cost gen_ai.cost"),
    *_rows("mcp", mcp_method="mcp.method.name", arguments="mcp.request.argument", result="mcp.response.value"),
    *_rows(
        "general",
        host="server.address net.peer.name url.full http.url",
        system="db.system.name db.system http.request.method http.method rpc.system.name rpc.system messaging.system",
        error_type="error.type exception.type",
        error_code="http.response.status_code http.status_code rpc.response.status_code rpc.grpc.status_code",
        error_message="error.message exception.message",
        workflow="workflow.name",
        agent="agent.id",
    ),
)
"""Every attribute that has a place in the contract."""


CONTENT: Final[Mapping[Field, str]] = {
    "input_messages": "gen_ai.input.messages",
    "output_messages": "gen_ai.output.messages",
    "instructions": "gen_ai.system_instructions",
    "arguments": "gen_ai.tool.call.arguments",
    "result": "gen_ai.tool.call.result",
    "prompt": "gen_ai.prompt",
    "completion": "gen_ai.completion",
    "input_value": "input.value",
    "output_value": "output.value",
}
"""Under which attribute content travels, whatever its emitter called it: the only keys where content may stand."""

PLACES: Final[Mapping[Field, str]] = {
    "operation": "what the span is: see Operations; model_call.operation, step.step_type",
    "provider": "model_call.provider",
    "host": "model_call.provider, where no provider is named",
    "model": "model_call.model",
    "model_asked": "model_call.model, where the response names none",
    "response_id": "model_call.response_id",
    "finish_reason": "model_call.finish_reason",
    "streamed": "model_call.streamed",
    "service_tier": "model_call.service_tier",
    "first_chunk_s": "model_call.time_to_first_token_ms (seconds)",
    "first_chunk_ms": "model_call.time_to_first_token_ms",
    "input": "resource_usage.input_tokens",
    "input_uncached": "resource_usage.input_tokens, cache added",
    "output": "resource_usage.output_tokens",
    "cache_read": "resource_usage.cache_read_tokens",
    "cache_write": "resource_usage.cache_write_tokens",
    "cache_write_1h": "resource_usage.cache_write_1h_tokens",
    "reasoning": "resource_usage.reasoning_tokens",
    "total": "proves whether input includes cache, and stands in for what is missing",
    "input_audio": "resource_usage.input_audio_tokens",
    "output_audio": "resource_usage.output_audio_tokens",
    "cache_read_audio": "resource_usage.cache_read_audio_tokens",
    "web_searches": "resource_usage.web_searches",
    "cost_usd": "cost.cost_usd: what the client believes, never billed",
    "tool": "tool_call.name",
    "tool_call_id": "tool_call.tool_call_id",
    "agent": "run.agent_id, where neither the sender nor the service tells whose",
    "agent_id": "run.agent_id, where the sender does not say whose",
    "workflow": "run.workflow_id",
    "run_id": "run.run_id, in place of the trace's",
    "step": "step.name",
    "project": "tenant.project_id",
    "workspace": "tenant.workspace_id",
    "error_type": "error.type",
    "error_code": "error.code",
    "error_message": "error.message",
    "mcp_method": "tool_call for `tools/call` of a client, else a step",
    "system": "step.step_type of spans no convention names: db, http, rpc, messaging",
    "span_type": "`pending_span` is left aside: the span itself follows",
    "evaluation": "evaluation.evaluator",
    "score": "evaluation.score",
    "score_label": "evaluation.label, evaluation.passed",
    **{field: f"attributes, as `{name}`" for field, name in CONTENT.items()},
}  # fmt: skip
"""Where a field ends, in words."""


@dataclass(frozen=True, slots=True)
class Family:
    """Attributes that are one thing flattened: ``gen_ai.prompt.0.role``, ``gen_ai.prompt.0.content`` and so on."""

    prefix: str
    field: Field
    convention: Convention


FAMILIES: Final[tuple[Family, ...]] = (
    Family("gen_ai.prompt.", "prompt", "openllmetry"),
    Family("gen_ai.completion.", "completion", "openllmetry"),
    Family("gen_ai.input.messages.", "input_messages", "openllmetry"),
    Family("gen_ai.output.messages.", "output_messages", "openllmetry"),
    Family("llm.input_messages.", "input_messages", "openinference"),
    Family("llm.output_messages.", "output_messages", "openinference"),
    Family("llm.prompts.", "prompt", "openinference"),
    Family("llm.choices.", "completion", "openinference"),
    Family("embedding.embeddings.", "input_value", "openinference"),
    Family("retrieval.documents.", "output_value", "openinference"),
    Family("reranker.input_documents.", "input_value", "openinference"),
    Family("reranker.output_documents.", "output_value", "openinference"),
    Family("input.documents.", "input_value", "openinference"),
    Family("input.images.", "input_value", "openinference"),
    Family("output.documents.", "output_value", "openinference"),
    Family("output.images.", "output_value", "openinference"),
    Family("llm.prompt_template.variables", "prompt", "openinference"),
    Family("gen_ai.retrieval.documents", "output_value", "semconv"),
    Family("gen_ai.retrieval.query.text", "input_value", "semconv"),
    Family("gen_ai.memory.records", "output_value", "semconv"),
)

KEPT: Final[frozenset[Field]] = frozenset({"agent", "mcp_method", "host", "system", "span_type", "cost_usd"})
"""Fields whose attributes stay among the event's attributes under their own name."""


Nature = Literal["model_call", "tool_call", "agent", "workflow", "step"]
"""What a span tells of. Only ``model_call`` is ever billed."""

OPERATIONS: Final[Mapping[str, tuple[Nature, str]]] = {
    # OpenTelemetry's operations.
    "chat": ("model_call", "chat"),
    "text_completion": ("model_call", "text_completion"),
    "generate_content": ("model_call", "generate_content"),
    "embeddings": ("model_call", "embeddings"),
    "execute_tool": ("tool_call", "execute_tool"),
    "invoke_agent": ("agent", "invoke_agent"),
    "create_agent": ("step", "create_agent"),
    "invoke_workflow": ("workflow", "invoke_workflow"),
    "plan": ("step", "plan"),
    "retrieval": ("step", "retrieval"),
    # OpenInference's kinds of spans.
    "llm": ("model_call", "chat"),
    "embedding": ("model_call", "embeddings"),
    "decision": ("model_call", "decision"),
    "tool": ("tool_call", "execute_tool"),
    "agent": ("agent", "invoke_agent"),
    "chain": ("step", "chain"),
    "retriever": ("step", "retrieval"),
    "reranker": ("step", "rerank"),
    "guardrail": ("step", "guardrail"),
    "evaluator": ("step", "evaluator"),
    "prompt": ("step", "prompt"),
    # OpenLLMetry's kinds of spans and of requests.
    "workflow": ("workflow", "invoke_workflow"),
    "task": ("step", "task"),
    "completion": ("model_call", "text_completion"),
    "rerank": ("step", "rerank"),
    # The Vercel AI SDK's operations.
    "ai.generatetext": ("agent", "ai.generateText"),
    "ai.streamtext": ("agent", "ai.streamText"),
    "ai.generateobject": ("agent", "ai.generateObject"),
    "ai.streamobject": ("agent", "ai.streamObject"),
    "ai.embed": ("step", "ai.embed"),
    "ai.embedmany": ("step", "ai.embedMany"),
    "ai.rerank": ("step", "ai.rerank"),
    "ai.generatetext.dogenerate": ("model_call", "chat"),
    "ai.streamtext.dostream": ("model_call", "chat"),
    "ai.generateobject.dogenerate": ("model_call", "chat"),
    "ai.streamobject.dostream": ("model_call", "chat"),
    "ai.embed.doembed": ("model_call", "embeddings"),
    "ai.embedmany.doembed": ("model_call", "embeddings"),
    "ai.toolcall": ("tool_call", "execute_tool"),
}
"""What an operation, in lower case, makes of its span, and the operation's current name.

An operation that is not here is a step of that type, unless the span names a model and counts tokens: then it is a call.
"""

Cache = Literal["included", "apart", "apart for anthropic"]
"""Whether an emitter's input count includes what was read from and written to the cache."""


@dataclass(frozen=True, slots=True)
class Emitter:
    """One source of spans, known by its instrumentation scope."""

    scope: str
    """The scope's name begins so; empty: any other."""
    name: str
    cache: Cache
    why: str


EMITTERS: Final[tuple[Emitter, ...]] = (
    Emitter("opentelemetry.instrumentation.openai_v2", "OpenTelemetry OpenAI", "included", "OpenAI counts cached tokens as input"),
    Emitter("opentelemetry.instrumentation.openai_agents", "OpenTelemetry OpenAI Agents", "included", "OpenAI counts cached tokens as input"),
    Emitter("opentelemetry.instrumentation.anthropic", "OpenLLMetry Anthropic", "included", "it adds cache reads and writes to the input"),
    Emitter("opentelemetry.instrumentation.bedrock", "OpenLLMetry Bedrock", "apart for anthropic", "the counts are Bedrock's own"),
    Emitter("opentelemetry.instrumentation.botocore", "OpenTelemetry botocore", "apart for anthropic", "the counts are Bedrock's own"),
    Emitter("opentelemetry.instrumentation.langchain", "OpenLLMetry LangChain", "included", "LangChain's usage_metadata includes cache"),
    Emitter("opentelemetry.instrumentation.", "OpenTelemetry or OpenLLMetry", "included", "as the conventions ask"),
    Emitter("openinference.instrumentation.", "OpenInference", "included", "its prompt count includes cache details"),
    Emitter("@arizeai/openinference", "OpenInference", "included", "its prompt count includes cache details"),
    Emitter("pydantic-ai", "pydantic-ai", "included", "its input_tokens include cache for every provider"),
    Emitter("logfire", "Logfire", "included", "as pydantic-ai"),
    Emitter("ai", "Vercel AI SDK", "apart for anthropic", "up to version 5 its Anthropic and Bedrock counts leave cache out"),
    Emitter("strands", "Strands Agents", "apart for anthropic", "the counts are Bedrock's own"),
    Emitter("openlit", "OpenLIT", "apart for anthropic", "the counts are the provider's own"),
    Emitter("litellm", "LiteLLM", "included", "its prompt_tokens include cache"),
    Emitter("", "any other", "included", "as the conventions ask"),
)  # fmt: skip
"""The first whose scope fits. What a span itself proves (more cache than input, a total that tells) overrules the row."""

ANTHROPIC: Final = ("anthropic", "claude")
"""Of a provider or model whose own input count leaves cache out."""

FRAMEWORKS: Final[frozenset[str]] = frozenset(
    {"langchain", "llamaindex", "llama_index", "crewai", "haystack", "unknown", "other", "_other", "strands-agents"}
)
"""Names that stand where the provider should, and are none."""

HOSTS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    ".openai.azure.com": "azure",
    ".services.ai.azure.com": "azure",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
    "aiplatform.googleapis.com": "google",
    ".amazonaws.com": "aws",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.deepseek.com": "deepseek",
    "api.cohere.com": "cohere",
    "api.x.ai": "x-ai",
    "api.together.xyz": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "api.perplexity.ai": "perplexity",
}
"""Whose a server is, by the end of its name; asked where a span names no provider."""

MODELS: Final[Mapping[str, str]] = {
    "gpt-": "openai",
    "chatgpt-": "openai",
    "text-embedding-": "openai",
    "o1": "openai",
    "o3": "openai",
    "o4": "openai",
    "claude-": "anthropic",
    "gemini-": "google",
    "mistral-": "mistral",
    "command-": "cohere",
    "grok-": "x-ai",
    "deepseek-": "deepseek",
}
"""Whose a model is by the beginning of its name; the last resort, and told in ``agentops.provider``."""
