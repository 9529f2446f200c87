"""Keys and tokens: the forms providers give them, as data, and the words that announce one."""

import re
from collections.abc import Iterator
from typing import Final

FORMS: Final[tuple[tuple[str, str], ...]] = (
    ("anthropic", r"sk-ant-[A-Za-z0-9_-]{16,}"),
    ("openai", r"sk-(?:proj-|svcacct-|admin-|or-v1-|lf-)?[A-Za-z0-9_-]{16,}"),
    ("stripe", r"(?:sk|rk|pk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}"),
    ("aws access key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}"),
    ("github", r"(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})"),
    ("gitlab", r"gl(?:pat|ptt|rt|dt|soat|cbt|agent)-[A-Za-z0-9_.-]{18,}"),
    ("slack", r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{20,}"),
    ("slack webhook", r"https://hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}"),
    ("google", r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,}"),
    ("huggingface", r"hf_[A-Za-z0-9]{30,}"),
    ("npm", r"npm_[A-Za-z0-9]{36}"),
    ("pypi", r"pypi-[A-Za-z0-9_-]{30,}"),
    ("groq and xai", r"(?:gsk_|xai-)[A-Za-z0-9]{30,}"),
    ("perplexity", r"pplx-[A-Za-z0-9]{30,}"),
    ("replicate", r"r8_[A-Za-z0-9]{30,}"),
    ("nvidia", r"nvapi-[A-Za-z0-9_-]{30,}"),
    ("langsmith", r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    ("sendgrid", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,}"),
    ("twilio", r"SK[0-9a-f]{32}"),
    ("telegram", r"[0-9]{8,10}:AA[A-Za-z0-9_-]{32,}"),
    ("discord", r"[MNO][A-Za-z0-9_-]{23,25}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    ("digitalocean", r"do[opr]_v1_[a-f0-9]{64}"),
    ("databricks", r"dapi[a-f0-9]{32}"),
    ("hashicorp vault", r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    ("shopify", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    ("notion and linear", r"(?:ntn_|secret_|lin_api_)[A-Za-z0-9]{40,}"),
    ("postman", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    ("age", r"AGE-SECRET-KEY-1[0-9A-Z]{58}"),
    ("nats seed", r"S[ACNOPUX][AC][A-Z2-7]{55}"),
    ("json web token", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    ("azure storage", r"AccountKey=[A-Za-z0-9+/]{40,}={0,2}"),
    ("azure sas", r"sig=[A-Za-z0-9%+/]{40,}(?:%3[dD]|=){0,2}"),
)  # fmt: skip
"""Whose, and how it looks. Each form has a beginning of its own, so that ids and digests are not taken for one."""

_BEGINS: Final = r"(?<![A-Za-z0-9])"
_FORMS: Final = re.compile(_BEGINS + "(?:" + "|".join(form for _, form in FORMS) + ")")
_PRIVATE_KEY: Final = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_LOGIN: Final = re.compile(r"://([^\s/:@\"'<>]{0,256}:[^\s/@\"'<>]{1,256})@")
_USER: Final = re.compile(r"(?<!\S)(?:-u|--user)[ =]+[\"']?([^\s:\"']{1,64}:[^\s\"']{4,200})")
_SCHEME: Final = re.compile(r"(?i)(?<![a-z])(?:bearer|basic|apikey|token)\s+([A-Za-z0-9._~+/=-]{16,2000})")
_SAID: Final = re.compile(
    r"(?i)(?:password|passwort|passwd|passphrase|pwd|secret(?:[_-]?key)?|api[_ .-]?key|access[_.-]?key|account[_.-]?key|private[_.-]?key"
    r"|auth[_.-]?key|(?:auth|access|refresh|bearer|id|session|csrf|api)[_-]?token|client[_-]?secret|(?<![a-z])token|credentials?)"
    r"[\"'\\]{0,4}(?:\s{0,3}(?:[:=]|=>|:=)\s{0,3}|\s+(?:is|ist|est|es|=)\s+)[\"'\\]{0,4}([^\s\"'\\,;<>{}()\[\]&]{6,500})"
)
_NO_VALUE: Final = frozenset({
    "none", "null", "true", "false", "required", "optional", "missing", "invalid", "expired", "incorrect", "undefined", "redacted",
    "string", "str", "bytes", "secret", "password", "changed", "wrong", "correct", "rejected", "revoked", "rotated", "stored", "needed", "unknown",
    "hidden", "withheld", "masked", "placeholder", "example", "your-api-key", "your_api_key", "not", "default", "object", "number",
})  # fmt: skip
_MASKED: Final = re.compile(
    r"[*x.•…_-]+\Z|\$\{?\w+\}?\Z|%\w+%\Z|os\.|process\.|env\.|getenv|self\.|config\.|settings\.|\w+\.\w+\("
)
_LETTERS: Final = re.compile(r"[a-z]+\Z|[A-Z]+\Z|[A-Z][a-z]+\Z")

PREFILTER: Final = (
    r"sk-|[srp]k_|whsec_|AKIA|ASIA|ABIA|ACCA|gh[pousr]_|github_pat_|gl(?:pat|ptt|rt|dt|soat|cbt|agent)-|xox[abeoprs]-|xapp-|hooks\.slack"
    r"|AIza|ya29\.|GOCSPX|hf_|npm_|pypi-|gsk_|xai-|pplx-|r8_|nvapi-|lsv2_|SG\.|SK[0-9a-f]{8}|:AA|\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}|do[opr]_v1|dapi"
    r"|hv[sbr]\.|shp(?:at|ca|pa|ss)_|ntn_|secret_|lin_api|PMAK-|AGE-SECRET|S[ACNOPUX][AC][A-Z2-7]{20}|eyJ|-u |-u=|--user|AccountKey|sig=|-----BEGIN|://"
    r"|(?i:bearer|basic|apikey|passw|passphrase|pwd|secret|api[_ .-]?key|(?:access|account|private|auth)[_.-]?key|credential|authorization|cookie|jwt"
    # The word itself, with what announces its value behind it: ``max_tokens`` and ``token_count`` are in every model call.
    r"|token[^A-Za-z0-9_.-])"
)
"""Where this matches nothing, nothing here does; nor is a name in front of ``"`` or ``=`` one of ``fields.SECRET_NAME``."""


def _said(text: str) -> Iterator[tuple[int, int]]:
    for match in _SAID.finditer(text):
        value = match[1].rstrip(".:!?")
        if len(value) < 6 or value.casefold() in _NO_VALUE or _MASKED.match(value):
            continue
        announced = match[0][: match.start(1) - match.start()].casefold()
        # A word after "token" is said about it; a password may be any word.
        if "passw" not in announced and "pwd" not in announced and (_LETTERS.match(value) or value.isdigit()):
            continue
        if " is " in announced and _LETTERS.match(value):
            continue
        yield match.start(1), match.start(1) + len(value)


def private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Where private keys stand in ``text``, from their first line to their last; one without a last line goes on to the end."""
    for match in _PRIVATE_KEY.finditer(text):
        yield match.span()


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where keys and tokens stand in ``text``; may overlap."""
    for match in _FORMS.finditer(text):
        yield match.span()
    if "://" in text:
        for match in _LOGIN.finditer(text):
            yield match.span(1)
    for match in _USER.finditer(text):
        yield match.span(1)
    for match in _SCHEME.finditer(text):
        value = match[1]
        if any(letter.isdigit() for letter in value) or len(value) >= 40:
            yield match.span(1)
    yield from _said(text)
