"""An event that is too large loses of its attributes what it must, and nothing that is billed."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.fitting import fitted
from schemas.content import TRUNCATED_MARK
from schemas.events import MAX_ATTRIBUTES
from schemas.reading import MAX_EVENT_BYTES
from tests.events import event

_values = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.text(max_size=40).map(lambda text: text * 200),
    st.lists(st.text(max_size=9), max_size=300),
)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(min_size=1, max_size=20), _values, max_size=20), st.integers(20_000, 60_000))
def test_an_event_fits_and_says_how_much_was_cut(attributes: dict[str, Any], most: int) -> None:
    made = event("model_call.completed", attributes=attributes)
    small, cut = fitted(made, most)
    assert len(orjson.dumps(small)) <= most
    assert cut == sum(small["attributes"][name] != value for name, value in attributes.items() if name != TRUNCATED_MARK)
    assert {**small, "attributes": {}} == {**made, "attributes": {}}
    assert (cut == 0) == (small == made)


def test_the_largest_there_can_be_fits_and_our_own_are_cut_last() -> None:
    names = [f"{number:03}".ljust(256, "\x01") for number in range(MAX_ATTRIBUTES - 3)]
    made = event("model_call.completed", attributes=dict.fromkeys(names, "\x01" * 8192))
    made["attributes"] |= {"agentops.usage": "u" * 4_096, "agentops.observed_by": "otel"}
    small, cut = fitted(made, MAX_EVENT_BYTES)
    assert len(orjson.dumps(small)) <= MAX_EVENT_BYTES
    assert small["attributes"]["agentops.usage"] == "u" * 4_096
    assert small["attributes"][TRUNCATED_MARK] == cut
    assert small["resource_usage"] == made["resource_usage"]
