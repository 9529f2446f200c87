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
_FEW_BYTES: Final = 10_000
_PASSAGE_CHARACTERS: Final = 900
_PROJECT: Final = Path(__file__).resolve().parents[3]
_WORD: Final = re.compile(r"\w+")
_STOP_WORDS: Final = frozenset(
    _WORD.findall(
        "a about an and are as at be by can do does for from has have how i if in into is it its me my no not of on or our say says "
        "so tell that the their them then there these they this to was we were what when where which who why will with you your"
    )
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
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in words
        if word not in _STOP_WORDS
    ]


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
    yield from found
    if sum(path.stat().st_size for _, path in found) < _FEW_BYTES:
        yield "LICENSE.txt", Path(sysconfig.get_paths()["stdlib"]) / "LICENSE.txt"


@dataclass(frozen=True, slots=True)
class _Index:
    seen: tuple[tuple[str, int, int], ...]
    documents: dict[str, str]
    passages: list[Passage]
    frequency: Counter[str]
    """In how many passages each word stands."""
    average_words: float


class Corpus:
    """The text files of ``folder`` (``.md``, ``.txt``, ``.rst``, at most 8 MB in all; what is beyond is left out).

    Without a folder: the project's README, changelog and docs, and Python's own licence where those are below 10 kB.
    Files are read at first use and again when one of them changed. May be used from several threads.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._latest: _Index | None = None

    def documents(self) -> dict[str, str]:
        """Text by name; raises NoCorpusError where there is none."""
        return self._index().documents

    def search(self, query: str, most: int = 4) -> list[Hit]:
        """The passages that match ``query`` best (BM25), best first; raises NoCorpusError where there is no text."""
        index, wanted = self._index(), set(words_of(query))
        hits = (Hit(passage.document, passage.text, _score(passage, wanted, index)) for passage in index.passages)
        return sorted((hit for hit in hits if hit.score > 0), key=lambda hit: -hit.score)[:most]

    def _index(self) -> _Index:
        files = list(_files(self._folder))
        seen = tuple((name, (stat := path.stat()).st_mtime_ns, stat.st_size) for name, path in files)
        if not seen:
            raise NoCorpusError(f"no text files in {self._folder}")
        if self._latest is None or self._latest.seen != seen:
            self._latest = _read(seen, [path for _, path in files])
        return self._latest


def _read(seen: tuple[tuple[str, int, int], ...], paths: list[Path]) -> _Index:
    left = _MOST_BYTES
    documents = {}
    for (name, _, size), path in zip(seen, paths, strict=True):
        if size <= min(left, _MOST_FILE_BYTES):
            documents[name] = path.read_text(encoding="utf-8", errors="replace")
            left -= size
    passages = [Passage(name, text, Counter(words_of(text))) for name, whole in documents.items() for text in passages_of(whole)]
    frequency = Counter(word for passage in passages for word in passage.words)
    average_words = sum(passage.words.total() for passage in passages) / max(1, len(passages))
    return _Index(seen, documents, passages, frequency, average_words)


def _score(passage: Passage, wanted: set[str], index: _Index) -> float:
    length = 0.25 + 0.75 * passage.words.total() / max(1.0, index.average_words)
    score = 0.0
    for word in wanted & passage.words.keys():
        count, passages = passage.words[word], index.frequency[word]
        rarity = math.log(1 + (len(index.passages) - passages + 0.5) / (passages + 0.5))
        score += rarity * count * 2.2 / (count + 1.2 * length)
    return score
