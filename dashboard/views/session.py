"""One open tab: what it is sent, what it says, and when it is too slow."""

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any, Final

import jinja2
import orjson
import panel as pn
import structlog
from panel.io import unlocked
from panel.io.state import set_curdoc

from dashboard.hub.hub import Hub
from dashboard.hub.orders import Acknowledge, Nonsense, Order, Painted, read
from dashboard.views.page import Page, bokeh_pane
from dashboard.views.plots import EVENTS, LATENCY, live_plot
from service.instruments import DOCUMENTS

log = structlog.get_logger(__name__)

BEHIND: Final = 30
"""So many frames not yet drawn, and the tab is sent nothing more until it draws again; then it gets a snapshot."""

_TEMPLATE: Final = jinja2.Environment(autoescape=False).from_string(  # noqa: S701
    (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
)

_documents: Final[weakref.WeakSet[Any]] = weakref.WeakSet()
DOCUMENTS.set_function(lambda: float(len(_documents)))


class PageSession:
    """A tab of the hub's. ``view`` is called once, while its document is being made."""

    def __init__(self, hub: Hub, assets: str, user: str) -> None:
        self.user = user
        self._hub = hub
        self._assets = assets
        self._document: Any = None
        self._page: Page | None = None
        self._painted = 0
        self._stale = False
        self._open = False

    def view(self) -> Page:
        """The tab's only component."""
        self._document = pn.state.curdoc
        _documents.add(self._document)
        self._document.template = _TEMPLATE
        self._document.template_variables["assets"] = self._assets
        # The page says itself when it is cut off, and begins anew: a session outlived by its server cannot be taken up again.
        self._document.config.update(reconnect_session=False, notify_connection_status=False)
        self._document.on_session_destroyed(self._destroyed)
        self._page = Page(
            self._said,
            assets=self._assets,
            events_plot=bokeh_pane(live_plot("events", EVENTS, "")),
            latency_plot=bokeh_pane(live_plot("latency", LATENCY, "ms")),
            sizing_mode="stretch_width",
            margin=0,
        )
        return self._page

    def _destroyed(self, _: Any) -> None:
        self._open = False
        self._hub.close(self)
        # Whatever still refers to this tab must not keep its document.
        self._page = self._document = None
        # A document is one great cycle, freed only by a collection, which with few allocations may be hours away.
        # Everything loaded at start is frozen (web.py), so it takes milliseconds.
        asyncio.get_running_loop().call_later(1.0, gc.collect)

    def show(self, text: str, sequence: int) -> None:
        """Sends a frame, unless the tab is far behind: then it is left out and later sent everything at once."""
        if self._stale or sequence - self._painted > BEHIND:
            self._stale = True
            return
        self._send(text)

    def tell(self, message: dict[str, Any]) -> None:
        """Sends something to this tab alone."""
        self._send(orjson.dumps(message).decode())

    def _send(self, text: str) -> None:
        # In the session's own event loop, without an await inside: no lock and no scheduling needed.
        if self._page is not None:
            with set_curdoc(self._document), unlocked():
                self._page.send(text)

    def _resynchronise(self) -> None:
        text, sequence = self._hub.snapshot()
        self._stale = False
        self._painted = sequence
        self._send(text)

    def _said(self, data: Any) -> None:
        match read(data):
            case Painted(sequence):
                if not self._open:
                    self._open = True
                    self._resynchronise()
                    self._hub.open(self)
                elif self._stale:
                    self._resynchronise()
                else:
                    self._painted = max(self._painted, min(sequence, self._hub.sequence))
            case Order() as order:
                self._hub.give(order, self)
            case Acknowledge() as acknowledge:
                self._hub.acknowledge(acknowledge, self)
            case Nonsense(reason):
                log.warning("tab.nonsense", reason=reason)
