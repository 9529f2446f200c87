"""The page's component: a shell that loads our script and carries messages both ways."""

from collections.abc import Callable
from typing import Any

import panel as pn
import param
from panel.custom import Child, JSComponent


class Page(JSComponent):  # type: ignore[misc]
    """All of the page. What it draws arrives as messages, so that every tab is sent the same string."""

    assets = param.String(doc="Where our scripts and styles are: /assets/<version>.")
    events_plot = Child()
    latency_plot = Child()

    # A blob: module cannot import by a relative path, so the real modules are fetched by their full address.
    _esm = """
    export async function render({model, el}) {
      const {draw} = await import(new URL(model.assets + "/page.js", document.baseURI).href)
      return draw(model)
    }
    """

    def __init__(self, said: Callable[[Any], None], **params: Any) -> None:
        super().__init__(**params)
        self._said = said

    def _handle_msg(self, data: Any) -> None:
        self._said(data)

    def send(self, text: str) -> None:
        """Sends one message to the tab."""
        self._send_msg(text)


def bokeh_pane(plot: Any) -> pn.pane.Bokeh:
    """A plot as a child of the page."""
    return pn.pane.Bokeh(plot, sizing_mode="stretch_width", margin=0)
