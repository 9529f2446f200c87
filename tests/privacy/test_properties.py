"""Whatever the text and the event: nothing raises, nothing that is found is left, done again it changes nothing, and JSON stays JSON."""

import re
from typing import Any

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st

from privacy.concern import concerns
from privacy.fields import SECRET_NAME
from privacy.letters import AsSent, Changed, Withheld, original
from privacy.redaction import Tally, findings, redact
from privacy.rules import STRICTEST, Rules, ready
from privacy.secrets import FORMS
from privacy.treatment import treat
from processors.validate.identity import payload_hash, same
from processors.validate.judging import normalised
from schemas.content import MARKS, ContentPolicy, OwnPattern
from schemas.events import Event
from schemas.reading import read_event
from schemas.shortcut import plainly
from tests.events import event
from tests.privacy.labelled import samples

_SECRETS = [sample.text[begin:end] for sample in samples() for begin, end, _ in sample.places]
RULES: tuple[Rules, ...] = (
    STRICTEST,
    ready(ContentPolicy(tenant_id="acme", mode="redacted")),
    ready(ContentPolicy(tenant_id="acme", mode="full")),
    ready(
        ContentPolicy(
            tenant_id="acme", mode="redacted", kinds=("EMAIL",), patterns=(OwnPattern(name="ODD", pattern="[a-z]+[0-9]"),)
        )
    ),
)

texts = st.lists(
    st.one_of(
        st.sampled_from(_SECRETS),
        st.text(max_size=12),
        st.sampled_from(
            [
                " ",
                ",",
                "@",
                "%40",
                "\\u0040",
                "\\n",
                '"',
                "{",
                "[EMAIL]",
                "[KEY]",
                "\u200b",
                "+",
                "-",
                ".",
                "password=",
                "token: ",
                "tel ",
                "https://",
                "&#64;",
                "0",
                "1",
            ]
        ),
    ),
    max_size=6,
).map("".join)
rules = st.sampled_from(RULES)
values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), texts
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)
keys = st.one_of(
    texts,
    st.sampled_from(
        ["gen_ai.prompt", "gen_ai.input.messages", "note", "password", "agentops.redacted", "agentops.content", "messages"]
    ),
)
named = texts.map(lambda text: text.replace("\x00", "")[:200])
events = st.builds(
    lambda attributes, message, name, sample: event("run.failed", error={"type": "x", "message": message}, step={"step_id": "s", "step_type": "t", "name": name or "n"},
        metrics={"samples": [{"name": sample or "n", "value": 1.0}, {"name": f"n{{{sample}={name}}}", "value": 1.0}]}, attributes=attributes),
    st.dictionaries(keys, values, max_size=4), texts.map(lambda text: text.replace("\x00", "")[:8000]), named, named.map(lambda text: text[:50]),
)  # fmt: skip


@settings(deadline=None)
@given(texts, rules)
def test_nothing_that_is_found_is_left_and_again_changes_nothing(text: str, by: Rules) -> None:
    tally = Tally()
    once = redact(text, by, tally)
    again = Tally()
    assert redact(once, by, again) == once
    assert again.total == 0
    assert (once != text) == (tally.total > 0)
    assert redact(text, by, Tally()) == once
    for piece in _between_marks(once, by):
        assert findings(piece, by) == []


def _between_marks(text: str, by: Rules) -> list[str]:
    names = "|".join((*(kind for kind in RULES[0].kinds), *(own.name for own in by.own)))
    return re.split(rf"\[(?:{names})\]", text)


@settings(max_examples=120, deadline=None)
@given(events, rules)
def test_a_treated_event_is_an_event_and_treated_again_the_same(made: dict[str, Any], by: Rules) -> None:
    sent = read_event(orjson.dumps(made))
    treated = treat(made, by)
    again = treat(treated.event, by)
    assert again.event == treated.event
    assert not again.touched
    if isinstance(sent, Event):
        assert isinstance(read_event(orjson.dumps(treated.event)), Event)


@settings(max_examples=120, deadline=None)
@given(events, rules, rules)
def test_an_event_is_the_same_event_whatever_policies_it_has_passed(made: dict[str, Any], first: Rules, second: Rules) -> None:
    def stored(by: Rules, *, at_the_sidecar: Rules | None = None) -> bytes | None:
        found = treat(made, at_the_sidecar).event if at_the_sidecar is not None else made
        sent = read_event(orjson.dumps(found))
        if not isinstance(sent, Event):
            return None
        plain = normalised(sent)
        treated = treat(orjson.loads(plain), by)
        if not treated.touched:
            return payload_hash(plain)
        attributes = orjson.Fragment(orjson.dumps(treated.event.get("attributes", {}), option=orjson.OPT_SORT_KEYS))
        return payload_hash(orjson.dumps(treated.event | {"attributes": attributes}))

    hashes = [stored(first), stored(second), stored(first, at_the_sidecar=second), stored(second, at_the_sidecar=first)]
    assert all(same(one, other) for one in hashes for other in hashes if one is not None and other is not None)


@settings(max_examples=120, deadline=None)
@given(events)
def test_an_event_that_needs_no_closer_look_would_not_be_changed_by_one(made: dict[str, Any]) -> None:
    flat = made | {
        "attributes": {
            key: value for key, value in made["attributes"].items() if not isinstance(value, dict | list) and key not in MARKS
        }
    }
    found = plainly(orjson.dumps(flat))
    if found is None:
        return
    plain = orjson.dumps(found)
    for by in RULES[:3]:
        if not concerns(found):
            assert not treat(orjson.loads(plain), by).touched


_secret_names = st.from_regex(SECRET_NAME).map(lambda text: text.replace("\x00", "")[-100:])


@settings(max_examples=400, deadline=None)
@given(_secret_names, st.sampled_from(["", "openai.", "x-", "db_"]))
@example("openai.api.key", "")
@example("private.key", "")
@example("access.key", "")
@example("API.KEY", "")
@example("auth.token", "")
def test_whatever_is_named_as_a_secret_gets_a_closer_look(name: str, before: str) -> None:
    name = before + name
    if SECRET_NAME.search(name) is None:
        return
    made = event("run.started", attributes={"a": 1, name: "abc"})
    assert concerns(made)
    assert treat(made, STRICTEST).found.get("KEY", 0) >= 1


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([form for _, form in FORMS]).flatmap(lambda form: st.from_regex(form, fullmatch=True)))
def test_every_form_of_a_key_passes_the_first_look_alone(key: str) -> None:
    made = event("run.started", attributes={"note": key})
    assert concerns(made)
    assert redact(key, STRICTEST, Tally()) != key


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), events.map(orjson.dumps), texts.map(str.encode)), rules)
def test_of_rejected_bytes_nothing_is_kept_that_would_be_found(raw: bytes, by: Rules) -> None:
    match original(raw, by):
        case AsSent():
            kept = raw
        case Changed(changed):
            kept = changed
        case Withheld():
            return
    assert not isinstance(original(kept, by), Changed)
