"""An agent that answers questions from a folder of documents.

``POST /chat {"message": str, "conversation_id"?: str}``. Two steps: a keyword search, then one streamed model call.
"""

import asyncio
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# The shared folder can be imported only after the line above.
from _shared.corpus import Corpus, Hit, NoCorpusError
from _shared.hosting import BadRequestError, serve
from _shared.models import Message, ModelClient
from _shared.runs import Run
from _shared.settings import read_settings

SYSTEM: Final = (
    "You answer questions about a software project from its documents. Each question comes with the passages of the documents "
    "that match it best, each with the name of the document it is from. Answer from these passages alone, in at most four "
    "sentences, and keep to the wording of the documents where it is clear. Name commands, settings and limits exactly as they "
    "are written. Where the passages do not answer the question, say so instead of guessing, and never invent a number."
)
MOST_MESSAGE_CHARACTERS: Final = 8_000
MOST_CONVERSATIONS: Final = 200
MOST_TURNS: Final = 4
_CONVERSATION_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Question:
    message: str
    conversation_id: str


class Conversations:
    """The latest turns of the latest conversations, in memory; the one unused longest is forgotten first."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, list[Message]] = OrderedDict()

    def turns(self, conversation_id: str) -> list[Message]:
        return list(self._turns.get(conversation_id, ()))

    def add(self, conversation_id: str, question: str, answer: str) -> None:
        turns = self._turns.setdefault(conversation_id, [])
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        del turns[: -2 * MOST_TURNS]
        self._turns.move_to_end(conversation_id)
        while len(self._turns) > MOST_CONVERSATIONS:
            self._turns.popitem(last=False)


class Chat:
    path = "/chat"
    workflow_id = "answer_question"

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._conversations = Conversations()

    def read(self, body: Mapping[str, Any]) -> Question:
        message, conversation_id = body.get("message"), body.get("conversation_id")
        if not isinstance(message, str) or not message.strip() or len(message) > MOST_MESSAGE_CHARACTERS:
            raise BadRequestError(f"message must be text of 1 to {MOST_MESSAGE_CHARACTERS} characters")
        if conversation_id is None:
            conversation_id = str(uuid4())
        if not isinstance(conversation_id, str) or not _CONVERSATION_ID.fullmatch(conversation_id):
            raise BadRequestError("conversation_id must be 1 to 64 letters, digits, '_' or '-'")
        return Question(message, conversation_id)

    async def perform(self, task: Question, run: Run, model: ModelClient) -> dict[str, Any]:
        hits = await self._retrieve(task.message, run)
        prompt = "\n\n".join([*(f"[{hit.document}]\n{hit.text}" for hit in hits), f"Question: {task.message}"])
        turns = self._conversations.turns(task.conversation_id)
        messages = [{"role": "system", "content": SYSTEM}, *turns, {"role": "user", "content": prompt}]
        with run.step("answer", "generation") as step:
            answer = await model.complete(step, messages, max_tokens=300, stream=True)
        self._conversations.add(task.conversation_id, prompt, answer)
        sources = list(dict.fromkeys(hit.document for hit in hits))
        return {"answer": answer, "sources": sources, "conversation_id": task.conversation_id}

    async def _retrieve(self, message: str, run: Run) -> list[Hit]:
        """The matching passages; none where there is no corpus, which the model is then left to say."""
        try:
            with run.step("retrieve", "retrieval") as step, step.tool_call("search_documents") as call:
                hits = await asyncio.to_thread(self._corpus.search, message)
                call.attributes["matches"] = len(hits)
                return hits
        except (NoCorpusError, OSError):
            return []


def main() -> None:
    folder = os.environ.get("AGENTOPS_CORPUS")
    settings = read_settings(os.environ, agent_id="chat-service", agent_type="chat")
    serve(settings, Chat(Corpus(Path(folder) if folder else None)))


if __name__ == "__main__":
    main()
