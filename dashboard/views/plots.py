"""The two live plots. The page's script feeds and colours them; the server only says what they are made of."""

from dataclasses import dataclass
from typing import Final

from bokeh.models import ColumnDataSource, DatetimeTickFormatter, HoverTool, NumeralTickFormatter, Range1d
from bokeh.plotting import figure

HEIGHT: Final = 190


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its column, name and the token of its colour in the style sheet."""

    column: str
    label: str
    token: str


EVENTS: Final = (Line("a", "events/s", "accent"), Line("b", "errors/s", "bad"))
LATENCY: Final = (Line("a", "mean", "accent"), Line("b", "p95", "warn"))


def _tooltip(lines: tuple[Line, ...], unit: str) -> str:
    rows = "".join(f"<br>{line.label} <b>@{line.column}{{0,0.[0]}}</b> {unit}" for line in lines)
    # Bokeh's tooltip is white in both themes.
    return f'<div style="font:12px/1.5 sans-serif;color:#131a26;padding:2px 4px">@t{{%H:%M:%S}}{rows}</div>'


def live_plot(name: str, lines: tuple[Line, ...], unit: str) -> figure:
    """An empty plot whose parts carry names (``<name>-source``, ``<name>-x`` …) for the script to find."""
    source = ColumnDataSource({"t": [], "area": [], **{line.column: [] for line in lines}}, name=f"{name}-source")
    plot = figure(
        name=name,
        height=HEIGHT,
        sizing_mode="stretch_width",
        x_axis_type="datetime",
        x_range=Range1d(0, 300_000, name=f"{name}-x"),
        y_range=Range1d(0, 10, name=f"{name}-y"),
        toolbar_location=None,
        tools="",
        min_border_left=46,
        min_border_right=12,
        min_border_top=8,
        min_border_bottom=24,
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_color=None,
        tags=["live"],
    )
    plot.varea(x="t", y1=0, y2="area", source=source, fill_alpha=0.14, tags=[lines[0].token])
    drawn = [
        plot.line("t", line.column, source=source, line_width=2, line_join="round", tags=[line.token], name=line.label)
        for line in lines
    ]
    plot.add_tools(
        HoverTool(
            renderers=drawn[:1],
            mode="vline",
            line_policy="nearest",
            point_policy="snap_to_data",
            tooltips=_tooltip(lines, unit),
            formatters={"@t": "datetime"},
        )
    )
    plot.xgrid.visible = False
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = None
        axis.major_label_text_font_size = "11px"
    plot.xaxis.formatter = DatetimeTickFormatter(
        seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M", hours="%H:%M"
    )
    plot.xaxis.ticker.desired_num_ticks = 5
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0.[0]")
    plot.yaxis.ticker.desired_num_ticks = 4
    return plot
