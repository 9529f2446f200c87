"""Answers taken from the text in the messages, sentence by sentence; nothing is made up."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from examples.model_server.tokens import Message

NOTHING_FOUND: Final = "The given text does not answer this question."
MOST_ANSWER_SENTENCES: Final = 3
MOST_SUMMARY_SENTENCES: Final = 4
_LONGEST_SENTENCE: Final = 400
_WORD: Final = re.compile(r"[^\W_]+")
_FENCED: Final = re.compile(r"```.*?(```|\Z)", re.DOTALL)
_LINE_MARK: Final = re.compile(r"^\s*(?:[-*+>]|#{1,6}|\d+[.)])\s+")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z0-9`*\"'(\[])")
_QUESTION_MARK: Final = re.compile(r"(?:^|\n)\s*question:\s*", re.IGNORECASE)
_SUMMARY_WANTED: Final = re.compile(r"\bsummar(?:i[sz]e|y)\b", re.IGNORECASE)
_STOP_WORDS: Final = frozenset(
    _WORD.findall(
        "a about above after again all also an and any are as at be because been before being below between both but by can could did do "
        "does doing down during each few for from further had has have having he her here hers him his how i if in into is it its just me "
        "more most my no nor not of off on once only or other our out over own same she should so some such than that the their them then "
        "there these they this those through to too under until up very was we were what when where which while who whom why will with "
        "would you your yours tell say says document documents question"
    )
)


def answer(messages: Sequence[Message]) -> str:
    """The answer to the last user message: a summary where the messages ask for one, else the sentences that match it best."""
    last = next((text for role, text in reversed(messages) if role == "user"), "")
    instructions = [text for role, text in messages if role in {"system", "developer"}]
    first_line, _, rest = last.partition("\n")
    if any(_SUMMARY_WANTED.search(text.split(". ", 1)[0]) for text in instructions):
        return summary(last)
    if _SUMMARY_WANTED.search(first_line) and rest.strip():
        return summary(rest)
    question, source = _question_and_source(last)
    earlier = [text for role, text in messages if role == "user" and text is not last]
    return _best_sentences(question, source or "\n\n".join([*earlier, *instructions]))


def summary(text: str) -> str:
    """The sentences of ``text`` whose words are the most frequent in it, in their order, at most four."""
    found = sentences(text)
    frequency = Counter(word for sentence in found for word in set(_words(sentence)))

    def weight(item: tuple[int, str]) -> float:
        place, sentence = item
        words = set(_words(sentence))
        if len(words) < 3:
            return 0.0
        return sum(frequency[word] - 1 for word in words) / math.sqrt(len(words)) * (1.2 if place < 2 else 1.0) + 0.01

    best = sorted(enumerate(found), key=weight, reverse=True)[:MOST_SUMMARY_SENTENCES]
    return " ".join(sentence for _, sentence in sorted(best)) or _shortened(text.strip())


def sentences(text: str) -> list[str]:
    """The sentences of a text or Markdown page; code blocks, tables and lines without words are left out."""
    paragraphs: list[list[str]] = [[]]
    for line in _FENCED.sub("\n\n", text).splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("|") or not _WORD.search(stripped):
            paragraphs.append([])
        elif _LINE_MARK.match(line) or (stripped.startswith("[") and stripped.endswith("]")):
            heading = stripped.startswith("#") or stripped.endswith("]")
            paragraphs.append([] if heading else [_LINE_MARK.sub("", line).strip()])
        else:
            paragraphs[-1].append(stripped)
    whole = (" ".join(lines) for lines in paragraphs if lines)
    found = (part.strip() for paragraph in whole for part in _SENTENCE_END.split(paragraph))
    return list(dict.fromkeys(_shortened(sentence) for sentence in found if sentence))


def _shortened(sentence: str) -> str:
    if len(sentence) <= _LONGEST_SENTENCE:
        return sentence
    return sentence[:_LONGEST_SENTENCE].rsplit(" ", 1)[0] + " …"


def _question_and_source(text: str) -> tuple[str, str]:
    marks = list(_QUESTION_MARK.finditer(text))
    if marks:
        return text[marks[-1].end() :], text[: marks[-1].start()]
    source, _, question = text.strip().rpartition("\n")
    return question, source


def _best_sentences(question: str, source: str) -> str:
    found = sentences(source)
    wanted = set(_words(question))
    words = [Counter(_words(sentence)) for sentence in found]
    seen_in = Counter(word for counted in words for word in counted)

    def score(place: int) -> float:
        shared = wanted & words[place].keys()
        rarity = sum(math.log(1 + len(found) / seen_in[word]) for word in shared)
        return rarity / (1 + 0.02 * words[place].total())

    places = sorted((place for place in range(len(found)) if wanted & words[place].keys()), key=score, reverse=True)
    chosen = sorted(places[:MOST_ANSWER_SENTENCES])
    return " ".join(found[place] for place in chosen) or NOTHING_FOUND


def _words(text: str) -> list[str]:
    words = (word.lower() for word in _WORD.findall(text))
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in words
        if word not in _STOP_WORDS
    ]
