"""One exporter's lane: an outbox, and a thread that empties it in batches, tries again, and gives up only when told to."""

import logging
import threading
import time
from collections import deque
from random import Random
from typing import Final

from sidecar.tracing.events import Begun, Item, Made, made
from sidecar.tracing.exporters.exporter import Again, Exporter, Refused
from sidecar.tracing.outbox import CAPACITY, Outbox
from sidecar.tracing.whose import Whose

logger: Final = logging.getLogger("agentops.tracer")

BATCH: Final = 500
EVERY_S: Final = 0.2
"""How long what is little waits for more."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 10.0
_LONGEST_BARRED_S: Final = 30.0
"""Keys are made and mended by hand."""
_CLOSING_PAUSE_S: Final = 0.05
_SILENCE_S: Final = 60.0
"""Between two warnings of the same kind."""
_LOOK_S: Final = 0.005


def _made(item: Item, who: Whose) -> Made:
    """``item`` as it leaves, made once for all lanes; two that make it at once make the same."""
    if isinstance(item, Begun):
        return made(item, who)
    if item.made is None:
        item.made = made(item, who)
    found: Made = item.made
    return found


class Lane:
    """Started by the first item; a daemon thread, so that it keeps no agent alive."""

    def __init__(
        self, exporter: Exporter, who: Whose, *, capacity: int = CAPACITY, batch: int = BATCH, every_s: float = EVERY_S
    ) -> None:
        self.exporter = exporter
        self.everything: bool = getattr(exporter, "everything", False)
        """Whether it also takes what sampling leaves out: it counts, and sends nothing."""
        self._who = who
        self._batch = batch
        self._every_s = every_s
        self._random = Random()
        self.outbox = Outbox(capacity)
        self.delivered = 0
        self.refused = 0
        self.lost_at_close = 0
        self.barred = 0
        """Times the other side did not let us send."""
        self._fresh()

    def _fresh(self) -> None:
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._some = threading.Event()
        self._many = threading.Event()
        self._closing = threading.Event()
        self._sending: deque[Made] = deque()
        self._busy = False
        self._warned: dict[str, float] = {}
        self._told_barred = False

    @property
    def waiting(self) -> int:
        """Items not yet delivered."""
        return len(self.outbox) + len(self._sending)

    @property
    def dropped(self) -> int:
        """Items lost for want of room, or of time at the end."""
        return self.outbox.dropped + self.lost_at_close

    def put(self, item: Item) -> None:
        """Takes ``item``; never waits."""
        waiting = self.outbox.put(item)
        if waiting >= self._batch and not self._many.is_set():
            self._many.set()
        if not self._some.is_set():
            self._some.set()
            if self._thread is None and not self._closing.is_set():
                self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=f"agentops-{self.exporter.name}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    # At the end of the interpreter, or of the process's threads: what waits leaves with ``close``.
                    self._some.clear()
                    return
                self._thread = thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._some.wait()
            self._many.wait(self._every_s)
            self._some.clear()
            self._many.clear()
            self._empty()

    def _empty(self, deadline: float | None = None) -> None:
        """Everything that waits is delivered, refused, or given up because it is time to close."""
        self._busy = True
        try:
            self._try(deadline)
        finally:
            self._busy = False

    def _try(self, deadline: float | None) -> None:
        pause = _FIRST_PAUSE_S
        while self._sending or len(self.outbox):
            try:
                outcome = self._send()
            except Exception as error:  # noqa: BLE001 - a lane that died would fill without a sign
                outcome = Again(f"{type(error).__name__}: {error}")
            if not isinstance(outcome, Again):
                pause = _FIRST_PAUSE_S
                continue
            self._wait_for(outcome)
            if outcome.barred and self._closing.is_set():
                # Nobody mends a key in the last seconds of a process.
                return
            if deadline is not None and time.monotonic() > deadline:
                return
            if self._closing.is_set():
                time.sleep(_CLOSING_PAUSE_S)
                continue
            self._closing.wait(max(pause * self._random.uniform(0.5, 1.0), outcome.after_s or 0.0))
            pause = min(pause * 2, _LONGEST_BARRED_S if outcome.barred else _LONGEST_PAUSE_S)

    def _wait_for(self, outcome: Again) -> None:
        if not outcome.barred:
            self._warn("again", "agentops: %s takes no events, they wait: %s", self.exporter.name, outcome.reason)
            return
        self.barred += 1
        if not self._told_barred:
            self._told_barred = True
            logger.warning(
                "agentops: %s does not let this process send, events wait (at most %d): %s",
                self.exporter.name,
                self.outbox.capacity,
                outcome.reason,
            )

    def _send(self) -> Again | None:
        if not self._sending:
            for item in self.outbox.take(self._batch):
                try:
                    self._sending.append(_made(item, self._who))
                except Exception as error:  # noqa: BLE001 - one span that cannot be told must not hold the others up
                    self.refused += 1
                    self._warn("made", "agentops: an event could not be made: %s: %s", type(error).__name__, error)
        batch: list[Made] = []
        size = 0
        for each in self._sending:
            size += len(each.line) + 1
            if batch and size > self.exporter.most_bytes:
                break
            batch.append(each)
        if not batch:
            return None
        outcome = self.exporter.export(batch)
        if isinstance(outcome, Again):
            return outcome
        self._told_barred = False
        for _ in batch:
            self._sending.popleft()
        lost = outcome.events if isinstance(outcome, Refused) else 0
        self.delivered += len(batch) - lost
        if isinstance(outcome, Refused):
            self.refused += lost
            self._warn("refused", "agentops: %s refused %d event(s) for good: %s", self.exporter.name, lost, outcome.reason)
        return None

    def _warn(self, kind: str, message: str, *values: object) -> None:
        now = time.monotonic()
        if now - self._warned.get(kind, -_SILENCE_S) >= _SILENCE_S:
            self._warned[kind] = now
            logger.warning(message, *values)

    def flush(self, within_s: float) -> bool:
        """Waits until everything put so far has left; whether it did within ``within_s``."""
        deadline = time.monotonic() + within_s
        while self.waiting or self._busy:
            if self._thread is None or not self._thread.is_alive():
                self._empty(deadline)
                return not self.waiting
            self._some.set()
            self._many.set()
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def closing(self) -> None:
        """No pauses any more: ``close`` follows."""
        self._closing.set()
        self._some.set()
        self._many.set()

    def reopen(self) -> None:
        """Takes items again after ``close``."""
        self._fresh()

    def close(self, within_s: float) -> None:
        """What waits leaves within ``within_s``; the rest is lost, counted and told. Nothing is taken afterwards."""
        deadline = time.monotonic() + within_s
        self.closing()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(within_s)
        if thread is None or not thread.is_alive():
            self._empty(deadline)
            self.exporter.close()
        if left := self.waiting:
            self.lost_at_close += left
            self.outbox.forget_waiting()
            logger.warning("agentops: %d event(s) lost: %s did not take them before the end", left, self.exporter.name)

    def forked(self) -> None:
        """A child process begins: it gets a thread when there is something to tell; what waits is the parent's."""
        self.outbox.forget()
        self.delivered = self.refused = self.lost_at_close = self.barred = 0
        self._fresh()
        self.exporter.forked()
