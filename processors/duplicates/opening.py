"""Opening an index for the stream it is derived from, and giving it up: another stream's, a damaged one, or one ahead of it is made anew."""

import structlog
from nats.js.api import StreamInfo

from processors.covered_loop import StartOverError
from processors.duplicates.index import DuplicateIndex, IndexUnavailableError, IndexUnusableError
from service.instruments import LOOP_ERRORS

log = structlog.get_logger(__name__)


def open_index(index: DuplicateIndex, stream: StreamInfo) -> None:
    """Opens ``index`` for ``stream``. Raises IndexUnusableError or IndexUnavailableError."""
    last = stream.state.last_seq
    for attempt in (1, 2):
        try:
            if attempt == 2 or index.applied > last:
                index.destroy()
            index.close()
            index.open(str(stream.created))
            if index.applied > last:
                raise IndexUnusableError(f"{index.path}: ahead of {stream.config.name}")
        except IndexUnusableError as error:
            if attempt == 2:
                raise
            log.warning("index.rebuilding", reason=str(error))
        else:
            return


def given_up(index: DuplicateIndex, error: IndexUnavailableError | IndexUnusableError, whose: str) -> StartOverError:
    """What to raise after ``error``: ``index`` is closed, and gone where it is of no use, so that the next opening begins anew."""
    LOOP_ERRORS.labels(f"{whose}.index").inc()
    if isinstance(error, IndexUnusableError):
        log.error("index.unusable", error=str(error))
        index.destroy()
    else:
        log.error("index.unavailable", error=str(error))
        index.close()
    return StartOverError(str(error))
