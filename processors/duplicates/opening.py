"""Opening an index for the stream it is derived from: another stream's, a damaged one, or one ahead of it is made anew."""

import structlog
from nats.js.api import StreamInfo

from processors.duplicates.index import DuplicateIndex, IndexUnusableError

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
