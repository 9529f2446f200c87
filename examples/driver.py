"""Keeps the sample agents busy with real questions and texts: ``python -m examples.driver --chat URL --summary URL``."""

import argparse
import asyncio
import json
import random
import re
import secrets
import signal
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp

from examples.agents._shared.corpus import Corpus, passages_of, words_of

MOST_IN_FLIGHT: Final = 8
REQUEST_TIMEOUT_S: Final = 90.0
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MOST_S: Final = 10.0
TURNS: Final = 3
"""Questions asked in one conversation before the next begins."""
TEXT_CHARACTERS: Final = (1_500, 12_000)
AGENTS: Final = {"chat-service": "/chat", "summary-service": "/summarize"}


def questions(documents: Mapping[str, str], chance: random.Random) -> Iterator[dict[str, Any]]:
    """Chat requests without end: about headings of ``documents`` and about words that stand together in them."""
    headings = [heading.strip(" #`") for text in documents.values() for heading in re.findall(r"^#{1,4} .+$", text, re.MULTILINE)]
    passages = [passage for text in documents.values() for passage in passages_of(text) if len(set(words_of(passage))) >= 4]
    while True:
        conversation_id = f"driver-{chance.randrange(16**8):08x}"
        for _ in range(TURNS):
            if headings and chance.random() < 0.3:
                message = f"What does the documentation say about {chance.choice(headings)}?"
            else:
                words = sorted(set(words_of(chance.choice(passages))), key=lambda word: (-len(word), word))[:12]
                message = f"How do {', '.join(chance.sample(words, min(3, len(words))))} belong together?"
            yield {"message": message, "conversation_id": conversation_id}


def texts(documents: Mapping[str, str], chance: random.Random) -> Iterator[dict[str, Any]]:
    """Summary requests without end: consecutive pieces of ``documents``, of 1,500 to 12,000 characters."""
    whole = [text for text in documents.values() if text.strip()]
    while True:
        text = chance.choice(whole)
        length = chance.randint(*TEXT_CHARACTERS)
        start = chance.randrange(max(1, len(text) - length))
        yield {"text": text[start : start + length] if text[start : start + length].strip() else text[: TEXT_CHARACTERS[1]]}


class Targets:
    """Where each agent answers: fixed, or from a JSON file read again whenever it changed."""

    def __init__(self, fixed: Mapping[str, str], file: Path | None) -> None:
        self._urls = dict(fixed)
        self._file = file
        self._seen: tuple[int, int] | None = None

    def url(self, agent: str) -> str | None:
        """The agent's base URL now; None while it has none. A file that is missing or half written changes nothing."""
        if self._file is not None:
            try:
                stat = self._file.stat()
                if (stat.st_mtime_ns, stat.st_size) != self._seen:
                    read = json.loads(self._file.read_text(encoding="utf-8"))
                    self._urls |= {name: url for name, url in read.items() if name in AGENTS and isinstance(url, str)}
                    self._seen = (stat.st_mtime_ns, stat.st_size)
            except (OSError, ValueError, AttributeError):
                pass
        return self._urls.get(agent)


@dataclass(slots=True)
class Tally:
    """What became of the requests to one agent."""

    sent: int = 0
    answered: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    """Answers other than 200, by status."""
    unreachable: int = 0
    skipped: int = 0
    """Beats passed over because eight requests were still in flight."""
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=1_000))

    def line(self) -> str:
        failed = sum(self.refused.values())
        by_status = f" ({', '.join(f'{count} x {status}' for status, count in sorted(self.refused.items()))})" if failed else ""
        unfinished = self.sent - self.answered - failed - self.unreachable
        median = f", median {statistics.median(self.latencies_s):.2f} s" if self.latencies_s else ""
        counts = f"{self.sent} sent, {self.answered} answered, {failed} failed{by_status}, {self.unreachable} unreachable"
        return f"{counts}, {unfinished} unfinished, {self.skipped} skipped{median}"


class Caller:
    """Sends one agent its requests at a steady rate, backing off while it is away."""

    def __init__(self, agent: str, targets: Targets, requests: Iterator[dict[str, Any]], session: aiohttp.ClientSession) -> None:
        self._agent = agent
        self._targets = targets
        self._requests = requests
        self._session = session
        self._in_flight: set[asyncio.Task[None]] = set()
        self._backoff_s = 0.0
        self.tally = Tally()

    async def run(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Sends ``rate`` requests a second until cancelled."""
        due = clock()
        try:
            while True:
                self._beat()
                due = max(due + 1 / rate, clock() + self._backoff_s)
                await asyncio.sleep(due - clock())
        finally:
            for task in self._in_flight:
                task.cancel()

    def _beat(self) -> None:
        url = self._targets.url(self._agent)
        if url is None:
            self._away()
        elif len(self._in_flight) >= MOST_IN_FLIGHT:
            self.tally.skipped += 1
        else:
            task = asyncio.create_task(self._send(url.rstrip("/") + AGENTS[self._agent], next(self._requests)), name=self._agent)
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    async def _send(self, url: str, body: dict[str, Any]) -> None:
        self.tally.sent += 1
        headers = {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}
        began = time.monotonic()
        try:
            async with self._session.post(url, json=body, headers=headers) as response:
                await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            self.tally.unreachable += 1
            self._away()
            return
        self._backoff_s = 0.0
        if response.status == 200:
            self.tally.answered += 1
            self.tally.latencies_s.append(time.monotonic() - began)
        else:
            self.tally.refused[response.status] = self.tally.refused.get(response.status, 0) + 1

    def _away(self) -> None:
        self._backoff_s = min(max(self._backoff_s * 2, BACKOFF_FIRST_S), BACKOFF_MOST_S)


async def drive(targets: Targets, rate: float, seed: int | None) -> None:
    """Drives both agents until SIGTERM or SIGINT, then prints what became of the requests."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    documents = Corpus().documents()
    chance = random.Random(seed)
    sources = {"chat-service": questions(documents, chance), "summary-service": texts(documents, chance)}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, connect=3.0)) as session:
        callers = {agent: Caller(agent, targets, source, session) for agent, source in sources.items()}
        tasks = [asyncio.create_task(caller.run(rate), name=agent) for agent, caller in callers.items()]
        print(f"driving {', '.join(callers)} at {rate:g} requests a second each", flush=True)
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, *tasks):
            task.cancel()
        failures = [failure for failure in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(failure, Exception)]
    print("; ".join(f"{agent}: {caller.tally.line()}" for agent, caller in callers.items()), flush=True)
    if failures:
        raise failures[0]


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 < rate <= 1000:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1000")
    return rate


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.driver", description=__doc__)
    parser.add_argument("--chat", help="base URL of chat-service")
    parser.add_argument("--summary", help="base URL of summary-service")
    parser.add_argument(
        "--targets", type=Path, help='JSON file {"chat-service": url, "summary-service": url}, read again when it changes'
    )
    parser.add_argument("--rate", type=_rate, default=0.5, help="requests a second for each agent")
    parser.add_argument("--seed", type=int, default=None, help="makes the choice of texts repeatable")
    asked = parser.parse_args(argv)
    if asked.targets is None and not (asked.chat and asked.summary):
        parser.error("give --chat and --summary, or --targets")
    fixed = {name: url for name, url in (("chat-service", asked.chat), ("summary-service", asked.summary)) if url}
    asyncio.run(drive(Targets(fixed, asked.targets), asked.rate, asked.seed))


if __name__ == "__main__":
    main()
