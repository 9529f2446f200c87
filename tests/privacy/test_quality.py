"""How well findings are found, measured on the labelled set; docs/privacy.md tells the same figures."""

from collections import Counter
from pathlib import Path

import pytest

from privacy.redaction import findings
from privacy.rules import STRICTEST
from schemas.content import FINDING_KINDS
from tests.privacy.labelled import Sample, samples

DOCS = Path(__file__).parents[2] / "docs" / "privacy.md"
FLOORS = {
    "EMAIL": (0.99, 0.98),
    "PHONE": (0.97, 0.95),
    "CARD": (0.97, 0.99),
    "IBAN": (0.99, 0.98),
    "NATIONAL_ID": (0.96, 0.95),
    "IP": (0.97, 0.97),
    "KEY": (0.97, 0.96),
}
"""Precision and recall below which this is another, worse detector."""


class Quality:
    """Counts over the whole set, by kind."""

    def __init__(self) -> None:
        self.right: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.odd: list[str] = []
        self.size = 0

    def add(self, sample: Sample) -> None:
        """A place counts as found where everything in it is covered by findings, whatever these are called, and called by its name once."""
        self.size += 1
        found = findings(sample.text, STRICTEST)
        used = set()
        for begin, end, kind in sample.places:
            over = [one for one in found if one[0] < end and one[1] > begin]
            used.update(over)
            covered = sum(min(end, last) - max(begin, first) for first, last, _ in over)
            if covered >= end - begin - 2 and any(name == kind for _, _, name in over):
                self.right[kind] += 1
            else:
                self.missed[kind] += 1
                self.odd.append(f"missed {kind} in {sample.text!r}: {found}")
        for one in found:
            if one not in used:
                self.wrong[one[2]] += 1
                self.odd.append(f"wrong {one[2]} {sample.text[one[0] : one[1]]!r} in {sample.text!r}")

    def figures(self, kind: str) -> tuple[float, float]:
        """Precision and recall."""
        right = self.right[kind]
        return right / max(1, right + self.wrong[kind]), right / max(1, right + self.missed[kind])

    def row(self, kind: str) -> str:
        """As the page has it."""
        precision, recall = self.figures(kind)
        return f"| `{kind}` | {self.right[kind] + self.missed[kind]} | {precision:.3f} | {recall:.3f} |"


@pytest.fixture(scope="module")
def quality() -> Quality:
    measured = Quality()
    for sample in samples():
        measured.add(sample)
    return measured


@pytest.mark.parametrize("kind", FINDING_KINDS)
def test_precision_and_recall_stand_where_they_did(quality: Quality, kind: str) -> None:
    precision, recall = quality.figures(kind)
    least_precision, least_recall = FLOORS[kind]
    told = "\n".join(line for line in quality.odd if f" {kind} " in line)
    assert precision >= least_precision, told
    assert recall >= least_recall, told


def test_the_page_tells_what_is_measured(quality: Quality) -> None:
    page = DOCS.read_text()
    for kind in FINDING_KINDS:
        assert quality.row(kind) in page


def test_the_set_is_large_and_every_kind_is_in_it(quality: Quality) -> None:
    assert quality.size > 700
    assert all(quality.right[kind] + quality.missed[kind] >= 60 for kind in FINDING_KINDS)
