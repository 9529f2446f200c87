"""What somebody might try, on purpose or not, to get a secret through."""

import time
from typing import Any

import orjson
import pytest

from privacy.concern import concerns
from privacy.letters import Changed, Withheld, original
from privacy.redaction import MOST_LOOKED_AT, Tally, redact
from privacy.rules import STRICTEST, Rules, ready
from privacy.treatment import treat
from schemas.content import ContentPolicy, OwnPattern
from schemas.events import MAX_ATTRIBUTES, Event
from schemas.reading import read_event
from tests.events import event, raw

MAIL = "jane.doe@example.com"
KEY = "sk-" + "proj-" + "Ab3dEf6hIj9lMn2pQr5t"
REDACTED = ready(ContentPolicy(tenant_id="acme", mode="redacted"))
FULL = ready(ContentPolicy(tenant_id="acme", mode="full"))


def attributes(given: dict[str, Any], rules: Rules = STRICTEST) -> dict[str, Any]:
    found: dict[str, Any] = treat(event(attributes=given), rules).event["attributes"]
    return found


def cleaned(text: str, rules: Rules = STRICTEST) -> str:
    return redact(text, rules, Tally())


@pytest.mark.parametrize(
    "hidden",
    [
        MAIL.replace("@", "%40"), MAIL.replace("@", "\\u0040"), MAIL.replace("@", "\\\\u0040"), MAIL.replace("@", "\\x40"), MAIL.replace("@", "&#64;"),
        MAIL.replace("@", "&#x40;"), MAIL.replace("@", "&commat;"), MAIL.replace("@", "\uff20"), MAIL.replace("@", "\ufe6b"), "\u200b".join(MAIL), "\u00ad".join(MAIL),
        MAIL.replace(".", "\uff0e"), MAIL.replace(".", "\u3002"), "\u2060".join(MAIL), "".join(f"%{ord(one):02x}" for one in MAIL), "".join(f"\\u{ord(one):04x}" for one in MAIL),
        "".join(chr(ord(one) + 0xFEE0) if one.isalpha() else one for one in MAIL), MAIL.replace("a", "a\u0301"),
    ],
)  # fmt: skip
def test_an_address_is_found_however_it_is_disguised(hidden: str) -> None:
    assert cleaned(f"to {hidden} today") == "to [EMAIL] today"


def test_content_is_found_whatever_its_key_looks_like() -> None:
    for key in (
        "gen_ai.prompt",
        "GEN_AI.PROMPT",
        "gen_ai.prompt.0.content",
        "gen\u200b_ai.prompt",
        "ｇen_ai.prompt",
        "x.gen_ai.prompt",
        "llm.input_messages.0.message.content",
    ):
        assert attributes({key: "the prompt"}) == {"agentops.content": "off", "agentops.content_bytes": 10}
    for nested in (
        {"gen_ai": {"prompt": "the prompt"}},
        {"a": {"gen_ai.prompt": "the prompt"}},
        {"a": [{"b": {"gen_ai": {"prompt": ["the prompt"]}}}]},
    ):
        assert b"the prompt" not in orjson.dumps(attributes(nested))
    assert b"the prompt" not in orjson.dumps(attributes({"note": '{"gen_ai.prompt": "the prompt"}'}))


def test_a_count_under_the_name_of_content_stays() -> None:
    assert attributes({"messages": 5, "gen_ai.prompt": 7}) == {"messages": 5, "gen_ai.prompt": 7}


def test_findings_are_found_in_names_numbers_and_json_within_json() -> None:
    inner = orjson.dumps([{"role": "user", "content": orjson.dumps({"mail": MAIL}).decode()}]).decode()
    found = attributes({MAIL: 1, f"{KEY}x": "y", "pan": 4111111111111111, "deep": {"a": [{MAIL: [MAIL]}]}, "said": inner})
    assert orjson.dumps(found).count(b"example.com") == 0
    assert KEY not in str(found)
    assert found["pan"] == "[CARD]"
    assert orjson.loads(orjson.loads(found["said"])[0]["content"]) == {"mail": "[EMAIL]"}


def test_what_a_field_is_called_says_that_it_is_a_secret() -> None:
    found = attributes(
        {
            "api_key": "abc",
            "db.password": "x",
            "headers": {"Authorization": "whatever", "cookie": "a=b"},
            "total_tokens": 7,
            "token": "t",
        }
    )
    assert found == {
        "api_key": "[KEY]", "db.password": "[KEY]", "headers": {"Authorization": "[KEY]", "cookie": "[KEY]"}, "total_tokens": 7, "token": "[KEY]",
        "agentops.redacted": 5,
    }  # fmt: skip


def test_a_secret_is_known_by_what_is_said_before_it_with_dots_too() -> None:
    for name in ("openai.api.key", "private.key", "access.key", "API.KEY", "auth.token"):
        assert cleaned(f"with {name}=ab12cd34 set") == f"with {name}=[KEY] set"


def test_what_is_in_every_model_call_costs_no_closer_look() -> None:
    """The words ``token`` and ``openai`` are in each; of a thousand calls a thousand would be looked through letter by letter."""
    common = {
        "service.name": "shop-agent", "service.version": "1.4.2", "otel.scope.name": "opentelemetry.instrumentation.openai_v2", "server.address": "api.openai.com",
        "server.port": 443, "gen_ai.request.max_tokens": 1024, "gen_ai.request.temperature": 0.2, "gen_ai.usage.cache_read_tokens": 5, "gen_ai.usage.total_tokens": 7,
        "gen_ai.token.type": "input", "llm.token_count.total": 7, "agentops.observed_by": "otel",
    }  # fmt: skip
    made = event("model_call.completed", attributes=common)
    assert not concerns(made)
    assert not treat(made, STRICTEST).touched


def test_a_mark_cannot_be_used_to_smuggle() -> None:
    found = attributes(
        {"agentops.redacted": MAIL, "agentops.content": MAIL, "agentops.content_bytes": {"a": MAIL}, "agentops.truncated": 10**30}
    )
    assert found == {}


def test_names_that_become_the_same_do_not_push_each_other_out() -> None:
    found = attributes({"a@example.com": 1, "b@example.com": 2})
    assert sorted(value for key, value in found.items() if key.startswith("[EMAIL]")) == [1, 2]


def test_every_free_text_of_the_contract_is_looked_through() -> None:
    text = f"{MAIL} with {KEY}"
    made = event(
        "run.failed", error={"type": "x", "message": text}, policy={"policy_id": "p", "decision": "block", "reason": text},
        log={"level": "info", "message": text}, health={"status": "HEALTHY", "reason": text, "checks": [{"name": "a", "kind": "http", "ok": False, "error": text}]},
        alert={"alert_id": "a", "type": "t", "message": text, "destination": MAIL},
        fault={"fault_id": "f", "kind": "latency", "until": "2026-01-01T00:00:00Z", "reason": text}, step={"step_id": "s", "step_type": "t", "name": KEY},
    )  # fmt: skip
    made["agent"] = {"name": KEY, "reason": text}
    for rules in (STRICTEST, REDACTED):
        told = raw(treat(made, rules).event)
        assert MAIL.encode() not in told
        assert KEY.encode() not in told
        assert isinstance(read_event(told), Event)
    told = raw(treat(made, FULL).event)
    assert MAIL.encode() in told
    assert KEY.encode() not in told


def test_names_and_units_of_samples_are_looked_through_with_their_labels() -> None:
    sample = {"name": f"requests{{api.key=abc,route=/chat,to={MAIL},token=none,via={KEY}}}", "value": 1.0, "unit": KEY}
    made = event("metric.sampled", metrics={"samples": [sample, {"name": "queue_depth", "value": 3.0}]}, attributes={})
    assert concerns(made)
    found = treat(made, STRICTEST)
    assert found.event["metrics"]["samples"] == [
        {"name": "requests{api.key=[KEY],route=/chat,to=[EMAIL],token=none,via=[KEY]}", "value": 1.0, "unit": "[KEY]"},
        {"name": "queue_depth", "value": 3.0},
    ]
    assert found.found == {"KEY": 3, "EMAIL": 1}
    assert not treat(found.event, STRICTEST).touched
    assert isinstance(read_event(raw(found.event)), Event)
    kept = raw(treat(made, FULL).event)
    assert MAIL.encode() in kept
    assert KEY.encode() not in kept


def test_samples_without_anything_cost_no_closer_look() -> None:
    names = (
        "queue_depth",
        "gen_ai.client.token.usage_sum{gen_ai.token.type=input}",
        "http_requests_count{method=GET,status=200}",
    )
    made = event(
        "metric.sampled", metrics={"samples": [{"name": name, "value": 1.0, "unit": "{token}"} for name in names]}, attributes={}
    )
    assert not treat(made, STRICTEST).touched
    plain = event(
        "metric.sampled",
        metrics={"samples": [{"name": "http_requests_count{method=GET,status=200}", "value": 1.0}]},
        attributes={},
    )
    assert not concerns(plain)


def test_ids_that_join_and_bill_are_never_changed() -> None:
    made = event("model_call.completed", run=MAIL, trace={"trace_id": MAIL})
    found = treat(made, STRICTEST)
    assert found.event["run"] == made["run"]
    assert found.event["trace"] == made["trace"]
    assert not found.touched


def test_large_values_are_cut_where_everybody_sees_it() -> None:
    found = attributes({"note": "x" * 20_000, "list": ["y" * 9_000]})
    assert len(found["note"]) <= 4_096
    assert found["note"].endswith("… [TRUNCATED 20,000 characters]")
    assert "TRUNCATED" in found["list"]
    assert found["agentops.truncated"] == 2


def test_large_content_is_referred_to_and_kept_whole_beside() -> None:
    prompt = f"{MAIL} " + "word " * 5_000
    made = event("model_call.completed", attributes={"gen_ai.prompt": prompt})
    found = treat(made, REDACTED, large="refer")
    (large,) = found.large
    assert large.reference == f"acme.{made['event_id']}.0"
    assert large.text == prompt.replace(MAIL, "[EMAIL]")
    assert f"agentops-content:{large.reference}" in found.event["attributes"]["gen_ai.prompt"]
    assert treat(found.event, REDACTED, large="refer").event == found.event


def test_an_event_with_as_many_attributes_as_it_may_have_stays_one() -> None:
    full = {f"a{number:03d}": MAIL for number in range(MAX_ATTRIBUTES - 2)} | {"gen_ai.prompt": "x", "long": "y" * 9_000}
    found = treat(event(attributes=full), STRICTEST).event
    assert isinstance(read_event(raw(found)), Event)
    assert treat(found, STRICTEST).event == found


def test_a_pattern_of_ones_own_is_found_and_cannot_hold_anything_up() -> None:
    """The classic of all patterns that hang: linear here."""
    policy = ContentPolicy(
        tenant_id="acme",
        mode="redacted",
        patterns=(OwnPattern(name="ORDER", pattern=r"AB-\d{5}"), OwnPattern(name="EVIL", pattern=r"(a+)+$|(a|aa)+b")),
    )
    rules = ready(policy)
    began = time.process_time()
    assert cleaned("order AB-12345 " + "a" * 50_000 + "!", rules).startswith("order [ORDER] ")
    assert time.process_time() - began < 5


HOSTILE = {
    "digits": "1" * 300_000, "groups": "1234 " * 60_000, "at": "@" * 300_000, "mails without end": "a@" * 150_000, "dots": "1." * 150_000, "colons": "a:" * 150_000,
    "dashes": "-" * 300_000, "beginnings": "-----BEGIN RSA PRIVATE KEY-----" * 9_000, "logins": "://a:" * 60_000, "words": "password " * 30_000, "bearer": "bearer " * 40_000,
    "escapes": "\\u0040" * 50_000, "percent": "%40" * 100_000, "plus": "+1 " * 100_000, "zero": "00 " * 100_000, "brackets": "[" * 200_000, "domains": "a@b." + "c." * 140_000,
    "keys": "sk-" * 100_000, "jwt": "eyJaaaaaaaa." * 25_000, "iban": "DE89 " * 60_000, "phone words": "phone " * 50_000 + "1" * 100, "tokens": "token=" * 50_000, "combining": "a\u0301" * 100_000,
    "ssn words": "ssn " * 50_000 + "123456789 " * 1_000, "placeholders": "[EMAIL]" * 40_000, "cards": "4111 1111 1111 1111 " * 15_000,
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_of_the_largest_size_costs_seconds_at_most(name: str) -> None:
    """A safety net for what would take minutes or hours, not a figure: those are in docs/privacy.md."""
    began = time.process_time()
    redact(HOSTILE[name], STRICTEST, Tally())
    assert time.process_time() - began < 30


def test_of_an_event_only_so_much_is_looked_at_closely_and_what_was_not_is_cut_off_where_everybody_sees_it() -> None:
    """Else a megabyte full of what might be something holds up everybody's events for many seconds."""
    tally = Tally()
    once = redact(f"{MAIL} " * 50_000, STRICTEST, tally)
    assert tally.looked_at <= MOST_LOOKED_AT
    assert tally.withheld == 1
    assert once.startswith("[EMAIL] [EMAIL]")
    assert once.endswith("… [TRUNCATED 1,050,000 characters]")
    assert MAIL not in once
    assert "jane" not in once
    assert len(once) < MOST_LOOKED_AT
    assert redact(once, STRICTEST, Tally()) == once
    prompt = {"gen_ai.prompt": [f"{MAIL} " * 5_000, f"{MAIL} " * 5_000], "note": f"again {MAIL}", "plain": "words alone"}
    treated = treat(event(attributes=prompt), REDACTED)
    assert MAIL.encode() not in raw(treated.event)
    assert treated.event["attributes"]["plain"] == "words alone"
    assert treated.event["attributes"]["agentops.truncated"] == treated.truncated >= 2


def test_a_long_text_with_little_in_it_stays_whole() -> None:
    prose = "The invoice of last week is still open, please look into it. " * 10_000
    assert cleaned(f"{prose}{MAIL} {prose}") == f"{prose}[EMAIL] {prose}"
    chinese = "上周的发票还没有付,请看一下。" * 20_000
    assert cleaned(f"{chinese} {MAIL} {chinese}") == f"{chinese} [EMAIL] {chinese}"


def test_what_is_nested_deeper_than_an_event_may_be_does_not_get_through() -> None:
    nested: Any = MAIL
    for _ in range(200):
        nested = [nested]
    assert MAIL not in str(attributes({"a": nested}))
    assert MAIL not in str(attributes({"a": orjson.dumps(nested).decode()}))


def test_bytes_that_are_no_text_are_kept_where_content_is_and_keys_in_them_are_not() -> None:
    raw = b'{"event_version":"v1","mark":"\x00\xff" my key is sk-proj-' + b"a1B2" * 12
    assert original(raw, ready(ContentPolicy(tenant_id="acme", mode="full"))) == Changed(
        b'{"event_version":"v1","mark":"\x00\xff" my key is [KEY]', "by the content policy"
    )
    assert isinstance(original(raw, ready(ContentPolicy(tenant_id="acme"))), Withheld)
