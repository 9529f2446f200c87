"""The labelled set: sentences with what is to be found in them, and sentences in which nothing is.

All of it is made up. Values are made here, by their own rules and not by the code under test; keys are put together when the
set is read, so that no file holds anything that looks like one.
"""

import random
import string
from collections.abc import Callable
from dataclasses import dataclass

from tests.privacy.hard import NEGATIVES, POSITIVES

_CHANCE = random.Random(20261130)


@dataclass(frozen=True)
class Sample:
    """A text, and the places in it where something stands: begin, end, kind."""

    text: str
    places: tuple[tuple[int, int, str], ...]


def read(marked: str) -> Sample:
    """``Mail <EMAIL|a@b.org> today``: the text without its marks, and where they were."""
    text, places = "", []
    while marked:
        before, opened, rest = marked.partition("\u00ab")
        text += before
        if opened:
            label, _, rest = rest.partition("|")
            value, _, rest = rest.partition("\u00bb")
            places.append((len(text), len(text) + len(value), label))
            text += value
        marked = rest
    return Sample(text, tuple(places))


def one_of(*makers: Callable[[], str]) -> str:
    return _CHANCE.choice(makers)()


def digits(count: int) -> str:
    return "".join(_CHANCE.choice(string.digits) for _ in range(count))


def letters(count: int, of: str = string.ascii_letters + string.digits) -> str:
    return "".join(_CHANCE.choice(of) for _ in range(count))


def with_luhn(body: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return body + str(-total % 10)


def card() -> str:
    first, length = _CHANCE.choice(
        [
            ("4", 16),
            ("51", 16),
            ("55", 16),
            ("2230", 16),
            ("34", 15),
            ("37", 15),
            ("6011", 16),
            ("65", 16),
            ("3530", 16),
            ("36", 14),
        ]
    )
    number = with_luhn(first + digits(length - len(first) - 1))
    form = _CHANCE.choice(["plain", "blanks", "dashes"])
    if form == "plain" or length == 14:
        return number
    separator = " " if form == "blanks" else "-"
    cuts = (4, 10) if length == 15 else (4, 8, 12)
    return separator.join(number[a:b] for a, b in zip((0, *cuts), (*cuts, length), strict=True))


_BBAN: dict[str, Callable[[], str]] = {
    "DE": lambda: digits(18), "FR": lambda: digits(10) + letters(11, string.digits + "ABC") + digits(2),
    "GB": lambda: letters(4, string.ascii_uppercase) + digits(14), "ES": lambda: digits(20),
    "IT": lambda: letters(1, string.ascii_uppercase) + digits(22), "NL": lambda: letters(4, string.ascii_uppercase) + digits(10),
    "AT": lambda: digits(16), "CH": lambda: digits(17), "BE": lambda: digits(12), "PL": lambda: digits(24), "SE": lambda: digits(20),
    "NO": lambda: digits(11), "DK": lambda: digits(14), "FI": lambda: digits(14), "PT": lambda: digits(21), "IE": lambda: letters(4, string.ascii_uppercase) + digits(14),
}  # fmt: skip


def iban() -> str:
    country = _CHANCE.choice(list(_BBAN))
    bban = _BBAN[country]()
    number = int("".join(str(int(one, 36)) for one in bban + country + "00"))
    whole = f"{country}{98 - number % 97:02d}{bban}"
    return whole if _CHANCE.random() < 0.4 else " ".join(whole[at : at + 4] for at in range(0, len(whole), 4))


def email() -> str:
    local = _CHANCE.choice(
        [
            "jane.doe",
            "j.doe+news",
            "info",
            "max_mustermann",
            "a",
            "o'neill",
            "user-42",
            "José.García",
            "x1y2z3",
            "first.middle.last",
        ]
    )
    domain = _CHANCE.choice(
        [
            "example.com",
            "mail.example.co.uk",
            "example.org",
            "firma.example.de",
            "sub.domain.example.net",
            "exämple.de",
            "uni.example.edu",
        ]
    )
    return f"{local}@{domain}"


def phone() -> str:
    number = digits
    return one_of(
        lambda: f"+49 30 {_CHANCE.choice('2345')}{number(6)}", lambda: f"+49 (0) 89 {_CHANCE.choice('235')}{number(6)}", lambda: f"+44 20 7{number(3)} {number(4)}",
        lambda: f"+44 7{_CHANCE.choice('4579')}11 {number(6)}", lambda: f"+1 212-555-{number(4)}", lambda: f"+1 (415) 555-01{number(2)}", lambda: f"(212) 555-01{number(2)}",
        lambda: f"415-555-01{number(2)}", lambda: f"312.555.01{number(2)}", lambda: f"+33 1 4{number(1)} {number(2)} {number(2)} {number(2)}", lambda: f"06 1{number(1)} {number(2)} {number(2)} {number(2)}",
        lambda: f"+34 91{number(1)} {number(3)} {number(3)}", lambda: f"+39 02 {_CHANCE.choice('48')}{number(3)} {number(4)}", lambda: f"+31 6 {_CHANCE.choice('1245')}{number(7)}",
        lambda: f"+41 44 2{number(2)} {number(2)} {number(2)}", lambda: f"+48 60{number(1)} {number(3)} {number(3)}", lambda: f"+46 70 {number(3)} {number(2)} {number(2)}",
        lambda: f"+81 3-3{number(3)}-{number(4)}", lambda: f"+91 98{number(3)} {number(5)}", lambda: f"+55 11 9{_CHANCE.choice('6789')}{number(3)}-{number(4)}", lambda: f"+61 4{_CHANCE.choice('01')}{number(1)} {number(3)} {number(3)}",
        lambda: f"030 {_CHANCE.choice('2345')}{number(6)}", lambda: f"0171 {_CHANCE.choice('2345')}{number(6)}", lambda: f"020 7{number(3)} {number(4)}",
    )  # fmt: skip


def address() -> str:
    four = ".".join(str(_CHANCE.randint(1, 254)) for _ in range(3))
    return one_of(
        lambda: f"{_CHANCE.choice([8, 17, 52, 84, 93, 145, 185, 203])}.{four}",
        lambda: f"{_CHANCE.choice([8, 17, 52, 84, 93, 145, 185, 203])}.{four}",
        lambda: f"2001:db8:{_CHANCE.getrandbits(16):x}:{_CHANCE.getrandbits(16):x}::{_CHANCE.getrandbits(16):x}",
        lambda: ":".join(f"{_CHANCE.getrandbits(16):x}" for _ in range(8)),
        lambda: f"fe80::{_CHANCE.randint(4096, 65535):x}:{_CHANCE.randint(4096, 65535):x}",
    )  # fmt: skip


def national_id() -> tuple[str, str]:
    """Whose, and the number."""

    def insee() -> str:
        body = f"{_CHANCE.choice('12')}{digits(2)}{_CHANCE.randint(1, 12):02d}{_CHANCE.randint(1, 95):02d}{digits(6)}".replace(
            "20", "21"
        )
        return f"{body}{97 - int(body) % 97:02d}"

    def dni() -> str:
        number = digits(8)
        return number + "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23]

    def ahv() -> str:
        body = "756" + digits(9)
        check = -sum(int(one) * (3 if place % 2 else 1) for place, one in enumerate(body)) % 10
        whole = body + str(check)
        return f"{whole[:3]}.{whole[3:7]}.{whole[7:11]}.{whole[11:]}"

    def hetu() -> str:
        body = (
            f"{_CHANCE.randint(1, 28):02d}{_CHANCE.randint(1, 12):02d}{_CHANCE.randint(50, 99)}",
            f"{_CHANCE.randint(2, 899):03d}",
        )
        return f"{body[0]}-{body[1]}{'0123456789ABCDEFHJKLMNPRSTUVWXY'[int(''.join(body)) % 31]}"

    def cpf() -> str:
        body = digits(9)
        for length in (10, 11):
            rest = sum(int(one) * weight for one, weight in zip(body, range(length, 1, -1), strict=True)) * 10 % 11 % 10
            body += str(rest)
        return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"

    def ssn() -> str:
        return f"{_CHANCE.choice([s for s in range(1, 772) if s != 666]):03d}-{_CHANCE.randint(1, 99):02d}-{_CHANCE.randint(1, 9999):04d}"

    def nino() -> str:
        numbers = digits(6)
        start, end = _CHANCE.choice(["AB", "CE", "JG", "SR", "PX"]), _CHANCE.choice("ABCD")
        return f"{start}{numbers}{end}" if _CHANCE.random() < 0.5 else f"{start} {numbers[:2]} {numbers[2:4]} {numbers[4:]} {end}"

    def pesel() -> str:
        body = f"{_CHANCE.randint(50, 99)}{_CHANCE.randint(1, 12):02d}{_CHANCE.randint(1, 28):02d}{digits(4)}"
        return body + str(-sum(int(one) * weight for one, weight in zip(body, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3), strict=True)) % 10)

    def bsn() -> str:
        while True:
            body = _CHANCE.choice("123456789") + digits(7)
            rest = sum(int(one) * weight for one, weight in zip(body, range(9, 1, -1), strict=True)) % 11
            if rest < 10:
                return body + str(rest)

    def belgian() -> str:
        body = f"{_CHANCE.randint(50, 99)}{_CHANCE.randint(1, 12):02d}{_CHANCE.randint(1, 28):02d}{_CHANCE.randint(1, 997):03d}"
        return f"{body[:2]}.{body[2:4]}.{body[4:6]}-{body[6:]}.{97 - int(body) % 97:02d}"

    def swedish() -> str:
        body = f"{_CHANCE.randint(50, 99)}{_CHANCE.randint(1, 12):02d}{_CHANCE.randint(1, 28):02d}{digits(3)}"
        whole = with_luhn(body)
        return f"{whole[:6]}-{whole[6:]}"

    def german() -> str:
        while True:
            pool = _CHANCE.sample(string.digits, 9)
            body = [*pool, _CHANCE.choice(pool)]
            _CHANCE.shuffle(body)
            product = 10
            for one in body:
                total = (int(one) + product) % 10 or 10
                product = total * 2 % 11
            if body[0] != "0" and not any(body[at] == body[at + 1] for at in range(9)):
                return "".join(body) + str((11 - product) % 10)

    word, make = _CHANCE.choice([
        ("SSN", ssn), ("our member", ssn), ("NI number", nino), ("her", nino), ("sécurité sociale", insee), ("assuré", insee), ("DNI", dni), ("cliente", dni), ("AHV", ahv), ("Versicherte", ahv),
        ("hetu", hetu), ("CPF", cpf), ("titular", cpf), ("PESEL", pesel), ("BSN", bsn), ("rijksregister", belgian), ("personnummer", swedish), ("Steuer-ID", german), ("IdNr", german),
    ])  # fmt: skip
    return word, make()


def key() -> str:
    low, upper = string.ascii_lowercase + string.digits, string.ascii_uppercase
    return one_of(
        lambda: "sk-" + letters(48), lambda: "sk-" + "proj-" + letters(64), lambda: "sk-" + "ant-api03-" + letters(86), lambda: "AKI" + "A" + letters(16, upper + "234567"),
        lambda: "gh" + "p_" + letters(36), lambda: "github_" + "pat_" + letters(40), lambda: "glp" + "at-" + letters(20), lambda: "xox" + "b-" + digits(12) + "-" + letters(24),
        lambda: "AIz" + "a" + letters(35), lambda: "hf" + "_" + letters(34), lambda: "sk" + "_live_" + letters(24), lambda: "npm" + "_" + letters(36), lambda: "gsk" + "_" + letters(52),
        lambda: "ey" + "J" + letters(30) + ".ey" + "J" + letters(60) + "." + letters(43), lambda: "SG" + "." + letters(22) + "." + letters(43), lambda: "hv" + "s." + letters(24),
        lambda: "dap" + "i" + letters(32, "0123456789abcdef"), lambda: "xai" + "-" + letters(40), lambda: "pyp" + "i-" + letters(60), lambda: "r8" + "_" + letters(37),
        lambda: "-----BEGIN " + "RSA PRIVATE KEY-----\n" + letters(64) + "\n" + letters(64) + "\n-----END " + "RSA PRIVATE KEY-----", lambda: "ntn" + "_" + letters(46, low),
    )  # fmt: skip


_SAID = {
    "EMAIL": ("Write to «EMAIL|{}».", "contact: «EMAIL|{}», thanks", "Schreiben Sie an «EMAIL|{}»!", '{{"user": "«EMAIL|{}»"}}', "écrivez à «EMAIL|{}» svp", "<«EMAIL|{}»> bounced", "mailto:«EMAIL|{}»?subject=hi"),
    "PHONE": ("Call me at «PHONE|{}».", "Tel.: «PHONE|{}»", "my number is «PHONE|{}», ask for Ann", "Rückruf unter «PHONE|{}» bitte", "appelez le «PHONE|{}» demain", "phone=«PHONE|{}»"),
    "CARD": ("Charge card «CARD|{}» please", "card number: «CARD|{}», exp 12/29", "Karte «CARD|{}» wurde abgelehnt", '{{"pan":"«CARD|{}»"}}', "pay with «CARD|{}»."),
    "IBAN": ("Überweisen Sie auf «IBAN|{}».", "IBAN: «IBAN|{}»", "my account is «IBAN|{}» at the bank", "virement vers «IBAN|{}», merci"),
    "IP": ("login from «IP|{}» failed", "client «IP|{}» timed out", "«IP|{}» - - GET /index.html", "X-Forwarded-For: «IP|{}», proxy", "blocked «IP|{}»."),
    "KEY": ("use «KEY|{}» for it", "export KEY=«KEY|{}»", "Authorization: Bearer «KEY|{}»", "the key «KEY|{}» was leaked", '{{"k": "«KEY|{}»"}}', "mit dem Schlüssel «KEY|{}» geht es"),
}  # fmt: skip
_MADE: dict[str, Callable[[], str]] = {"EMAIL": email, "PHONE": phone, "CARD": card, "IBAN": iban, "IP": address, "KEY": key}
EACH = 70


def samples(seed: int = 20261130) -> list[Sample]:
    """The whole set, the same each time for the same seed."""
    _CHANCE.seed(seed)
    made = [read(_CHANCE.choice(_SAID[kind]).format(_MADE[kind]())) for kind in _SAID for _ in range(EACH)]
    for _ in range(EACH):
        word, number = national_id()
        made.append(read(f"{word} «NATIONAL_ID|{number}» on file"))
    for _ in range(30):
        password = letters(8) + _CHANCE.choice("!7#Q") + digits(2)
        made.append(
            read(
                _CHANCE.choice(
                    (
                        "password is «KEY|{}»",
                        "api_key = '«KEY|{}»'",
                        "postgres://«KEY|app:{}»@db.internal/app",
                        'client_secret: "«KEY|{}»"',
                    )
                ).format(password)
            )
        )
    for _ in range(EACH * 4):
        made.append(read(_negative()))
    return made + [read(line) for line in POSITIVES] + [read(line) for line in NEGATIVES]


def _negative() -> str:
    """Numbers, ids and code as agents say them."""
    hexadecimal = "0123456789abcdef"
    return one_of(
        lambda: f"run {letters(8, hexadecimal)}-{letters(4, hexadecimal)}-4{letters(3, hexadecimal)}-a{letters(3, hexadecimal)}-{letters(12, hexadecimal)} completed",
        lambda: f"trace_id={letters(32, hexadecimal)} span_id={letters(16, hexadecimal)}", lambda: f"at 17{digits(8)} and 17{digits(11)} and 17{digits(17)}",
        lambda: f"order {digits(6)} of batch {digits(4)}-{digits(4)}", lambda: f"2026-{_CHANCE.randint(1, 12):02d}-{_CHANCE.randint(1, 28):02d}T{_CHANCE.randint(0, 23):02d}:{digits(1)}5:00.{digits(6)}Z done",
        lambda: f"version {_CHANCE.randint(1, 20)}.{_CHANCE.randint(0, 40)}.{_CHANCE.randint(0, 9)}.{_CHANCE.randint(0, 200)} installed", lambda: f"sha256:{letters(64, hexadecimal)}",
        lambda: f"spent {digits(3)},{digits(3)}.{digits(2)} USD, {digits(5)} tokens in {digits(4)}.{digits(3)} ms", lambda: f"invoice RE-2026-{digits(5)} over {digits(4)},00 EUR",
        lambda: f"max_tokens={digits(4)} temperature=0.{digits(2)} seed={digits(8)}", lambda: f"embedding [0.{digits(8)}, -0.{digits(8)}, 1.{digits(7)}e-05]",
        lambda: f"ticket #{digits(7)}, see https://example.com/issues/{digits(5)}?page={digits(2)}", lambda: f"chatcmpl-{letters(29)} and call_{letters(24)} and resp_{letters(48, hexadecimal)}",
        lambda: f"lines {digits(3)}-{digits(3)} of src/app_{digits(2)}.py", lambda: f"52.{digits(4)}, 13.{digits(4)} is Berlin", lambda: f"ISBN 978-{_CHANCE.randint(0, 9)}-{digits(3)}-{digits(5)}-{digits(1)}",
        lambda: f"commit {letters(40, hexadecimal)} by @{letters(8, string.ascii_lowercase)}", lambda: f"port {digits(4)}, pid {digits(5)}, exit code {digits(1)}", lambda: f"row {digits(9)} of {digits(10)}",
    )  # fmt: skip
