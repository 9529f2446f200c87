"""An agent that summarises a text of any length up to its limit.

``POST /summarize {"text": str}`` or ``{"document": name}``. The text is cut into chunks, each chunk is summarised by
its own model call, and one more call combines the parts.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# The shared folder can be imported only after the line above.
from _shared.corpus import Corpus, NoCorpusError, passages_of
from _shared.hosting import BadRequestError, serve
from _shared.models import ModelClient
from _shared.runs import Run, Step
from _shared.settings import read_settings

SUMMARISE: Final = (
    "Summarise the text the user sends in at most four sentences. It is one part of a longer document, so leave out greetings, "
    "headings and anything that only announces what follows. Keep names, numbers, limits and conditions exactly as they are "
    "written, prefer the sentences that say what is done and why, and add nothing that the text does not say."
)
COMBINE: Final = (
    "Summarise the user's text in at most six sentences. It is made of summaries of consecutive parts of one document, in their "
    "order. Say each thing once, keep the order, keep names, numbers, limits and conditions exactly as they are written, and "
    "add nothing that the summaries do not say."
)
MOST_TEXT_CHARACTERS: Final = 200_000
CHUNK_CHARACTERS: Final = 6_000
AT_ONCE: Final = 3


@dataclass(frozen=True, slots=True)
class Work:
    text: str


class Summary:
    path = "/summarize"
    workflow_id = "summarize_text"

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def read(self, body: Mapping[str, Any]) -> Work:
        if ("text" in body) == ("document" in body):
            raise BadRequestError("give either text or document")
        text = body["text"] if "text" in body else self._document(body["document"])
        if not isinstance(text, str) or not text.strip() or len(text) > MOST_TEXT_CHARACTERS:
            raise BadRequestError(f"text must be text of 1 to {MOST_TEXT_CHARACTERS} characters")
        return Work(text)

    def _document(self, name: object) -> str:
        try:
            documents = self._corpus.documents()
        except (NoCorpusError, OSError):
            documents = {}
        if not isinstance(name, str) or name not in documents:
            raise BadRequestError("there is no document of this name")
        return documents[name]

    async def perform(self, task: Work, run: Run, model: ModelClient) -> dict[str, Any]:
        with run.step("chunk", "preparation"):
            chunks = list(passages_of(task.text, CHUNK_CHARACTERS))
        with run.step("summarize", "generation") as step:
            parts = await _summaries(step, model, chunks)
        summary = parts[0]
        if len(parts) > 1:
            with run.step("combine", "generation") as step:
                messages = [{"role": "system", "content": COMBINE}, {"role": "user", "content": "\n\n".join(parts)}]
                summary = await model.complete(step, messages, max_tokens=400)
        return {"summary": summary, "chunks": len(chunks), "characters": len(task.text)}


async def _summaries(step: Step, model: ModelClient, chunks: list[str]) -> list[str]:
    """One summary a chunk, three calls at once; the first failure cancels the others and is raised."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def summarise(chunk: str) -> str:
        async with slots:
            messages = [{"role": "system", "content": SUMMARISE}, {"role": "user", "content": chunk}]
            return await model.complete(step, messages, max_tokens=200)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(summarise(chunk)) for chunk in chunks]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def main() -> None:
    folder = os.environ.get("AGENTOPS_CORPUS")
    settings = read_settings(os.environ, agent_id="summary-service", agent_type="summary")
    serve(settings, Summary(Corpus(Path(folder) if folder else None)))


if __name__ == "__main__":
    main()
