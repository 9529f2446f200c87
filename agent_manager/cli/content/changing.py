"""``agentops content set``: a request to validate, which alone writes policies and leaves an audit record."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast
from uuid import uuid4

from nats.aio.client import Client
from pydantic import ValidationError

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.content.showing import bucket
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.money import ask_cost
from privacy.patterns import UnusablePatternError, made
from schemas.content import PERSONAL_KINDS, ContentChange, ContentChanged, ContentMode, FindingKind, OwnPattern
from schemas.errors import field_errors
from schemas.ids import is_token
from streams import subjects


def chosen(kinds: str | None) -> tuple[FindingKind, ...] | None:
    """The kinds that were typed; raises CommandFailedError."""
    if kinds is None:
        return None
    found = tuple(dict.fromkeys(kind.strip().upper() for kind in kinds.split(",") if kind.strip()))
    for kind in found:
        if kind not in PERSONAL_KINDS:
            known = ", ".join(PERSONAL_KINDS)
            raise CommandFailedError(f"--kinds: {kind!r} is no kind", f"Use {known}; keys and tokens are always replaced", code=2)
    return cast("tuple[FindingKind, ...]", found)


def patterns(given: Sequence[str] | None) -> tuple[OwnPattern, ...] | None:
    """The patterns that were typed; raises CommandFailedError."""
    if given is None:
        return None
    found = []
    for each in given:
        name, equals, pattern = each.partition("=")
        if not equals or not pattern:
            raise CommandFailedError(f"--pattern {each!r} is not NAME=REGEX", "Such as --pattern 'ORDER=AB-[0-9]{5}'", code=2)
        try:
            found.append(OwnPattern(name=name.strip(), pattern=pattern))
        except ValidationError as error:
            told = "; ".join(one.told(f"--pattern {name[:40]!r}") for one in field_errors(error))
            raise CommandFailedError(
                told, "A name is capitals, digits and _; a pattern has at most 500 characters", code=2
            ) from error
    try:
        made(found)
    except UnusablePatternError as error:
        raise CommandFailedError(str(error), "Try it: agentops content test TEXT --pattern NAME=REGEX", code=2) from error
    return tuple(found)


def set_(
    data: Path | None, tenant: str, mode: ContentMode, reason: str, kinds: str | None, given: Sequence[str] | None, *,
    no_patterns: bool, as_json: bool,
) -> None:  # fmt: skip
    """Sets a policy."""
    if not is_token(tenant):
        raise CommandFailedError(f"TENANT: {tenant!r} is no id", "Use 1 to 64 letters, digits, - and _", code=2)
    if not reason.strip():
        raise CommandFailedError("--reason is empty", "Say why: it stays with the change", code=2)
    if no_patterns and given:
        raise CommandFailedError("--no-patterns and --pattern exclude each other", "Give one of them", code=2)
    wanted_kinds, wanted_patterns = chosen(kinds), () if no_patterns else patterns(given)

    async def work(client: Client, place: Place) -> ContentChanged:
        entry = await (await bucket(client)).get(tenant)
        before = None if entry is None else entry.value
        change = ContentChange(
            change_id=uuid4().hex, tenant_id=tenant, revision=0 if entry is None else entry.revision, mode=mode, reason=reason,
            kinds=wanted_kinds if wanted_kinds is not None else before.kinds if before is not None else PERSONAL_KINDS,
            patterns=wanted_patterns if wanted_patterns is not None else before.patterns if before is not None else (),
        )  # fmt: skip
        # Asked once: a lost answer must not turn into a refusal of what was done.
        return await ask_cost(client, subjects.content_policy(place.user), change, ContentChanged, attempts=1, who="validate")

    changed = run(data, work)
    if as_json:
        output.write_json(changed.model_dump(mode="json"))
        return
    meaning = {
        "off": "prompts and completions are dropped",
        "redacted": "prompts and completions are kept, findings in them replaced",
        "full": "prompts and completions are kept as they are, but for keys and tokens",
    }[changed.policy.mode]
    output.write_line(f"{tenant}: {changed.policy.mode}. From now on {meaning} (revision {changed.revision})")
