"""Tokens as the contract counts them, whatever the emitter counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.sections import ResourceUsage
from sidecar.otlp.mapping import Cache
from sidecar.otlp.usage import usage

CASES: list[tuple[str, dict[str, Any], Cache, str, dict[str, int], str]] = [
    ("as the conventions ask", {"input": 100, "output": 20, "cache_read": 60, "cache_write": 10}, "included", "anthropic",
     {"input_tokens": 100, "cache_read_tokens": 60, "cache_write_tokens": 10}, ""),
    ("an emitter that leaves cache out", {"input": 30, "output": 20, "cache_read": 60, "cache_write": 10}, "apart for anthropic",
     "anthropic", {"input_tokens": 100}, ""),
    ("the same emitter for another provider", {"input": 100, "output": 20, "cache_read": 60}, "apart for anthropic", "openai",
     {"input_tokens": 100}, ""),
    ("more cache than input", {"input": 30, "output": 20, "cache_read": 60}, "included", "anthropic",
     {"input_tokens": 90}, "input left cache out"),
    ("a total that counts cache once more", {"input": 100, "output": 20, "cache_read": 60, "total": 180}, "included", "x",
     {"input_tokens": 160}, "input left cache out"),
    ("a total that does not", {"input": 100, "output": 20, "cache_read": 60, "total": 120}, "included", "x", {"input_tokens": 100}, ""),
    ("what was not cached is told", {"input": 1, "input_uncached": 30, "output": 20, "cache_read": 60}, "included", "x",
     {"input_tokens": 90}, ""),
    ("more reasoning than output", {"input": 10, "output": 20, "reasoning": 50}, "included", "google",
     {"output_tokens": 70, "reasoning_tokens": 50}, "output left reasoning out"),
    ("a total that counts reasoning", {"input": 10, "output": 50, "reasoning": 20, "total": 80}, "included", "google",
     {"output_tokens": 70, "reasoning_tokens": 20}, "output left reasoning out"),
    ("an embedding, counted in all", {"total": 12}, "included", "openai", {"input_tokens": 12, "output_tokens": 0}, ""),
    ("texts and floats", {"input": "12", "output": 3.0}, "included", "x", {"input_tokens": 12, "output_tokens": 3}, ""),
    ("nobody counted", {}, "included", "x", {"input_tokens": 0, "output_tokens": 0}, "not reported"),
    ("no count", {"input": -4, "output": 7}, "included", "x", {"input_tokens": 0, "output_tokens": 7}, "input is no count of tokens"),
    ("beyond any bill", {"input": 10**12, "output": 1, "cache_read": 10**12, "cache_write": 5}, "included", "x",
     {"input_tokens": 0, "output_tokens": 0}, "more than a trillion"),
    ("parts that fit", {"input": 10, "output": 5, "input_audio": 4, "output_audio": 5}, "included", "x",
     {"input_audio_tokens": 4, "output_audio_tokens": 5}, ""),
    ("parts that do not", {"input": 10, "output": 5, "input_audio": 11}, "included", "x", {"input_tokens": 10},
     "input_audio_tokens exceeds input_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "rule", "provider", "wanted", "said"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_counts(fields: dict[str, Any], rule: Cache, provider: str, wanted: dict[str, int], said: str) -> None:
    found = usage(fields, rule, provider, "a-model")
    read = ResourceUsage(**found.section)
    assert {name: getattr(read, name) for name in wanted} == wanted
    assert said in "; ".join(found.corrected)
    assert bool(said) == bool(found.corrected)
    assert read.estimated == (said in {"not reported", "more than a trillion"})


COUNT = st.one_of(st.integers(0, 300), st.integers(-5, 2 * 10**12), st.floats(), st.text(max_size=4), st.booleans(), st.none())
NAMES = ("input", "input_uncached", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "total", "input_audio",
         "output_audio", "cache_read_audio", "web_searches")  # fmt: skip


@given(
    fields=st.dictionaries(st.sampled_from(NAMES), COUNT),
    rule=st.sampled_from(["included", "apart", "apart for anthropic"]),
    provider=st.sampled_from(["anthropic", "openai"]),
)
def test_any_counts_add_up_and_nothing_told_is_billed_less(fields: dict[str, Any], rule: Cache, provider: str) -> None:
    found = usage(fields, rule, provider, "m")
    read = ResourceUsage(**found.section)
    told = fields.get("input")
    if type(told) is int and 0 <= told <= 10**12 and not read.estimated and "input_uncached" not in fields:
        assert read.input_tokens >= told
