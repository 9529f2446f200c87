"""Text files that agents search and summarise."""

import math
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SUFFIXES: Final = (".md", ".txt", ".rst")
_MOST_FILE_BYTES: Final = 1_000_000
_MOST_BYTES: Final = 8_000_000
_PASSAGE_CHARACTERS: Final = 900
_PROJECT: Final = Path(__file__).resolve().parents[3]
_WORD: Final = re.compile(r"\w+")
_STOP_WORDS: Final = frozenset(
    "a about an and are as at be by can do does for from has have how i if in into is it its me my no not of on or our say says "
    "so tell that the their them then there these they this to was we were what when where which who why will with you your".split()
)


class NoCorpusError(Exception):
    """There is no text where text was looked for; trying again helps only after someone puts it there."""


@dataclass(frozen=True, slots=True)
class Passage:
    document: str
    text: str
    words: Counter[str]


@dataclass(frozen=True, slots=True)
class Hit:
    document: str
    text: str
    score: float


def words_of(text: str) -> list[str]:
    """The words that say what ``text`` is about, lower case, plural endings cut."""
    words = (word.lower() for word in _WORD.findall(text))
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words if word not in _STOP_WORDS]


def passages_of(text: str, most_characters: int = _PASSAGE_CHARACTERS) -> Iterator[str]:
    """``text`` in whole paragraphs, joined up to ``most_characters``; only a longer paragraph is cut."""
    held = ""
    for paragraph in re.split(r"\n\s*\n", text):
        for start in range(0, len(paragraph), most_characters):
            piece = paragraph[start : start + most_characters].strip()
            if held and len(held) + len(piece) + 2 > most_characters:
                yield held
                held = ""
            held = f"{held}\n\n{piece}" if held and piece else held or piece
    if held:
        yield held


def _files(folder: Path | None) -> Iterator[tuple[str, Path]]:
    if folder is not None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
        yield from ((path.relative_to(folder).as_posix(), path) for path in paths)
        return
    paths = [_PROJECT / "README.md", _PROJECT / "CHANGELOG.md", *sorted((_PROJECT / "docs").rglob("*.md"))]
    found = [(path.relative_to(_PROJECT).as_posix(), path) for path in paths if path.is_file()]
    yield from found or [("LICENSE.txt", Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt")]


class Corpus:
    """The text files of ``folder`` (``.md``, ``.txt``, ``.rst``, at most 8 MB in all; what is beyond is left out).

    Without a folder: the project's README, changelog and docs, or Python's licence where they are not installed.
    Files are read at first use and again when one of them changed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._documents: dict[str, str] = {}
        self._passages: list[Passage] = []
        self._frequency: Counter[str] = Counter()

    def documents(self) -> dict[str, str]:
        """Text by name; raises NoCorpusError where there is none."""
        self._refresh()
        return self._documents

    def search(self, query: str, most: int = 4) -> list[Hit]:
        """The passages that match ``query`` best (BM25), best first; raises NoCorpusError where there is no text."""
        self._refresh()
        wanted = set(words_of(query))
        average = sum(passage.words.total() for passage in self._passages) / max(1, len(self._passages))
        hits = (Hit(passage.document, passage.text, self._score(passage, wanted, average)) for passage in self._passages)
        return sorted((hit for hit in hits if hit.score > 0), key=lambda hit: -hit.score)[:most]

    def _score(self, passage: Passage, wanted: set[str], average: float) -> float:
        length = 0.25 + 0.75 * passage.words.total() / average
        score = 0.0
        for word in wanted & passage.words.keys():
            count, documents = passage.words[word], self._frequency[word]
            rarity = math.log(1 + (len(self._passages) - documents + 0.5) / (documents + 0.5))
            score += rarity * count * 2.2 / (count + 1.2 * length)
        return score

    def _refresh(self) -> None:
        files = list(_files(self._folder))
        seen = tuple((name, (stat := path.stat()).st_mtime_ns, stat.st_size) for name, path in files)
        if not seen:
            raise NoCorpusError(f"no text files in {self._folder}")
        if seen == self._seen:
            return
        left = _MOST_BYTES
        self._documents = {}
        for (name, _, size), (_, path) in zip(seen, files, strict=True):
            if size <= min(left, _MOST_FILE_BYTES):
                self._documents[name] = path.read_text(encoding="utf-8", errors="replace")
                left -= size
        self._passages = [Passage(name, text, Counter(words_of(text))) for name, whole in self._documents.items() for text in passages_of(whole)]
        self._frequency = Counter(word for passage in self._passages for word in passage.words)
        self._seen = seen
