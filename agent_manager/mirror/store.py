"""The collection in Firestore: heard as it changes, written on condition that it is as it was heard."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import firestore

from agent_manager.mirror.settings import MirrorSettings

log = structlog.get_logger(__name__)

_LOOK_S: Final = 2.0
_LONGEST_S: Final = 60.0
_WRITE_S: Final = 10.0


class AwayError(Exception):
    """Firestore does not take it now. Trying again later helps."""


class MovedError(Exception):
    """The document is another than was heard of: what it says now comes by itself."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A document as it was last heard."""

    fields: Mapping[str, Any]
    updated_at: datetime
    """Firestore's own; a condition on it lets nobody's change be overwritten unread."""


class Documents:
    """What Firestore has, by the agent's id. ``changed`` hears the id of each document that is another now."""

    def __init__(self, settings: MirrorSettings, changed: Callable[[str], object]) -> None:
        self._settings = settings
        self._changed = changed
        self._client = firestore.AsyncClient(project=settings.project, database=settings.database)
        # The asynchronous client cannot listen; this one does, in threads of its own.
        self._listening = firestore.Client(project=settings.project, database=settings.database)
        self._loop = asyncio.get_running_loop()
        self.heard: dict[str, Heard] = {}
        self.whole = False
        """Whether everything that is there has been heard once: before that nothing is written."""

    async def listen(self) -> None:
        """Hears of every change until cancelled; begins anew where Google's listener has ended."""
        pause = 1.0
        while True:
            watch = None
            try:
                watch = self._listening.collection(self._settings.collection).on_snapshot(self._told)
                while watch.is_active:
                    await asyncio.sleep(_LOOK_S)
                    pause = 1.0
            except (exceptions.GoogleAPICallError, GoogleAuthError, ValueError) as error:
                log.warning("firestore.not_heard", error=str(error)[:300])
            finally:
                if watch is not None:
                    watch.unsubscribe()
            log.info("firestore.listening_again", after_s=pause)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_S, 2 * pause)

    def _told(self, _: Sequence[Any], changes: Sequence[Any], __: datetime) -> None:
        # Called in a thread of Google's library.
        found = [
            (
                change.document.id,
                None if change.type.name == "REMOVED" else Heard(change.document.to_dict(), change.document.update_time),
            )
            for change in changes
        ]
        self._loop.call_soon_threadsafe(self._take, found)

    def _take(self, found: Sequence[tuple[str, Heard | None]]) -> None:
        self.whole = True
        for name, heard in found:
            if heard is None:
                self.heard.pop(name, None)
            else:
                self.heard[name] = heard
            self._changed(name)

    async def write(self, name: str, fields: Mapping[str, Any]) -> None:
        """Writes ``fields``, whatever else the document has stays. Raises MovedError, AwayError."""
        reference = self._client.collection(self._settings.collection).document(name)
        heard = self.heard.get(name)
        await self._sure(
            reference.create(dict(fields), timeout=_WRITE_S)
            if heard is None
            else reference.update(
                dict(fields), option=self._client.write_option(last_update_time=heard.updated_at), timeout=_WRITE_S
            )
        )

    async def remove(self, name: str) -> None:
        """Removes the document, if it is as it was heard. Raises MovedError, AwayError."""
        if (heard := self.heard.get(name)) is not None:
            reference = self._client.collection(self._settings.collection).document(name)
            option = self._client.write_option(last_update_time=heard.updated_at)
            await self._sure(reference.delete(option=option, timeout=_WRITE_S))

    @staticmethod
    async def _sure(work: Any) -> None:
        try:
            await work
        except (exceptions.FailedPrecondition, exceptions.AlreadyExists, exceptions.NotFound, exceptions.Aborted) as error:
            raise MovedError(str(error)) from error
        except (exceptions.GoogleAPIError, GoogleAuthError, TimeoutError) as error:
            raise AwayError(f"{type(error).__name__}: {error}"[:300]) from error

    async def close(self) -> None:
        """Ends both clients."""
        self._listening.close()
        self._client.close()
