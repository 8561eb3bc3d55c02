"""Charts as SVG: lines, dots and bars on plain axes. The one way in which this platform draws; what is drawn says `plots`.

Each function returns a complete `<svg>` with a title and a description for screen readers. A page that holds it includes
`STYLE` and may give the colors by CSS variables, as the model card does in dark mode; `standalone` is for everything else.

Why not matplotlib: importing it took 0.6 s of CPU time in every retraining process and each picture another 0.1 s, where
these take less than a millisecond; the card needs text and CSS variables in its SVG, which matplotlib has only by way of
replacing colors in its output; and what is needed of it are three kinds of charts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from markupsafe import Markup

WIDTH, HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 18, 12, 44
_CHAR_WIDTH = 7.0
"""Upper bound for the width of a character of a tick label, in units of the picture."""
_MAX_TICKS = 6
_MIN_SPAN = 0.02
_NICE_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

STYLE = """svg { width: 100%; height: auto; display: block; }
.tick, .legend { font: 11px system-ui, sans-serif; fill: var(--pale, #6b7685); } .legend { font-weight: 600; }
.frame { stroke: var(--pale, #6b7685); fill: none; } .grid { stroke: var(--line, #d6dce4); stroke-width: .5; }
.line { fill: none; stroke-width: 1.8; } .pale.line { stroke: var(--pale, #6b7685); stroke-dasharray: 4 4; stroke-width: 1; }
""" + "\n".join(
    f".ink{n}.line {{ stroke: {color}; }} .ink{n}.dot, .ink{n}.bar, .ink{n}.legend {{ fill: {color}; }}"
    for n, color in enumerate(("var(--c0, #1f5fa8)", "var(--c1, #b3541e)", "var(--c2, #2e7d4f)", "var(--c3, #7a3e9d)"))
)
"""The style sheet of all charts. Without the variables they are dark on light."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line of a chart; `dots`: with a dot at each point; `dashed`: a reference line."""

    name: str
    points: Sequence[Point]
    dots: bool = False
    dashed: bool = False
    error_bars: Sequence[tuple[float, float] | None] = field(default=())
    """Lower and upper end of the error bar at each point."""


@dataclass(frozen=True)
class Axes:
    """Names and ranges of the two axes. `x_labels` replaces numbers below the points."""

    x: str
    y: str
    x_range: tuple[float, float] = (0.0, 1.0)
    y_range: tuple[float, float] = (0.0, 1.0)
    x_labels: Sequence[str] = ()


def standalone(chart: str) -> str:
    """A chart as the content of an SVG file, on white."""
    head, rest = chart.split(">", 1)
    return f"{head}><style>{STYLE} svg {{ background: #fff; }}</style>{rest}"


def page(title: str, charts: Mapping[str, Markup | None]) -> str:
    """A page of charts under their captions, without those that there is no data for."""
    body = "".join(
        f"<figure><figcaption>{escape(caption)}</figcaption>{chart}</figure>" for caption, chart in charts.items() if chart
    )
    style = f"body {{ max-width: 48rem; margin: auto; font: 14px system-ui, sans-serif; }} {STYLE}"
    return f'<!doctype html><meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style>{body}'


def line_chart(title: str, axes: Axes, series: Sequence[Series]) -> Markup:
    """A line chart with a legend where there are several lines."""
    parts = [_frame(axes)]
    for number, line in enumerate(series):
        style = "pale" if line.dashed else f"ink{number % 4}"
        at = [(_x(axes, x), _y(axes, y)) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
        if line.dots:
            parts += [f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in at]
        for (x, _), error_bar in zip(at, line.error_bars, strict=False):
            if error_bar is not None:
                low, high = (_y(axes, end) for end in error_bar)
                parts.append(f'<line class="line {style}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
    names = [line.name for line in series if line.name]
    if len(names) > 1:
        position = _legend_position(axes, series)
        parts += [
            f'<text class="legend {"pale" if line.dashed else f"ink{n % 4}"}" {position} y="{_TOP + 16 + 15 * n}">'
            f"{escape(line.name)}</text>"
            for n, line in enumerate(series)
            if line.name
        ]
    return _svg(title, f"{axes.y} against {axes.x}: {', '.join(names) or 'one line'}", parts)


def _legend_position(axes: Axes, series: Sequence[Series]) -> str:
    """Attributes of the legend's place: upper left, or upper right where the lines are lower there."""
    middle = sum(axes.x_range) / 2
    solid = [point for line in series if not line.dashed for point in line.points]
    left, right = (
        max((y for x, y in solid if (x > middle) == on_the_right), default=axes.y_range[0]) for on_the_right in (False, True)
    )
    return f'x="{WIDTH - _RIGHT - 8}" text-anchor="end"' if right < left else f'x="{_LEFT + 8}"'


def histogram(title: str, axes: Axes, edges: Sequence[float], counts: dict[str, Sequence[int]]) -> Markup:
    """A histogram of several kinds in the same bins, side by side."""
    counts = {name: values for name, values in counts.items() if any(values)}
    largest = max((count for values in counts.values() for count in values), default=0) or 1
    axes = Axes(axes.x, axes.y, (edges[0], edges[-1]), (0, nice_ticks(0, largest)[-1]))
    parts = [_frame(axes)]
    for number, (name, values) in enumerate(counts.items()):
        for low, high, count in zip(edges[:-1], edges[1:], values, strict=True):
            width = (_x(axes, high) - _x(axes, low)) / len(counts)
            left, top = _x(axes, low) + number * width, _y(axes, count)
            parts.append(
                f'<rect class="bar ink{number}" x="{left:.1f}" y="{top:.1f}" width="{max(width - 0.5, 0.5):.1f}" '
                f'height="{_y(axes, 0) - top:.1f}"/>'
            )
        position = f'x="{WIDTH - _RIGHT - 8}" text-anchor="end" y="{_TOP + 16 + 15 * number}"'
        parts.append(f'<text class="legend ink{number}" {position}>{escape(name)}</text>')
    return _svg(title, f"{axes.y} by {axes.x}, for {', '.join(counts)}", parts)


def bars(title: str, values: Sequence[tuple[str, float]]) -> Markup:
    """A horizontal bar chart, the first value on top, as wide as its longest name needs."""
    row, longest = 22, max((len(name) for name, _ in values), default=0)
    names = max(170.0, longest * _CHAR_WIDTH + 12)
    width = max(float(WIDTH), names + 230)
    largest = max((value for _, value in values), default=0) or 1
    parts = []
    for number, (name, value) in enumerate(values):
        y, length = number * row + 4, (width - names - 60) * value / largest
        parts.append(f'<text class="tick" x="{names - 6:.0f}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="bar ink0" x="{names:.0f}" y="{y}" width="{max(length, 1):.1f}" height="{row - 6}"/>')
        parts.append(f'<text class="tick" x="{names + length + 5:.1f}" y="{y + 13}">{_format_number(value)}</text>')
    description = ", ".join(f"{name} {value:.3g}" for name, value in values)
    return _svg(title, description or "nothing", parts, width=width, height=row * max(len(values), 1) + 8)


def nice_range(values: Sequence[float]) -> tuple[float, float]:
    """A range between two tick values that holds all values with some padding."""
    low, high = min(values), max(values)
    padding = max((high - low) * 0.1, _MIN_SPAN / 2)
    ticks = nice_ticks(low - padding, high + padding)
    return ticks[0], ticks[-1]


def nice_ticks(low: float, high: float) -> list[float]:
    """At most seven ticks from `low` or less to `high` or more, in equal steps of 1, 2, 2.5 or 5 times a power of ten."""
    size = 10.0 ** math.floor(math.log10((high - low) / (_MAX_TICKS - 1))) if high > low else 0.1
    for step in (nice * size for nice in _NICE_STEPS):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first < _MAX_TICKS:
            break
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def _svg(title: str, description: str, parts: Sequence[str], width: float = WIDTH, height: int = HEIGHT) -> Markup:
    size = f'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}"'
    label = f"{escape(title)}: {escape(description)}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{label}">'
    return Markup(f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>")  # every text in it has been escaped


def _frame(axes: Axes) -> str:
    (x0, x1), (y0, y1) = axes.x_range, axes.y_range
    base, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = [f'<path class="frame" d="M{_LEFT},{_TOP}V{base}H{right}"/>']
    y_ticks = nice_ticks(y0, y1)
    for value, label in zip(y_ticks, _labels(y_ticks), strict=True):
        y = _y(axes, value)
        parts.append(f'<path class="grid" d="M{_LEFT},{y:.1f}H{right}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    labels: list[tuple[float, str]]
    if axes.x_labels:
        last = len(axes.x_labels) - 1
        step = max(1, -(-last // 4))
        labels = [(n, axes.x_labels[n]) for n in range(last, -1, -step)]
    else:
        x_ticks = nice_ticks(x0, x1)
        labels = list(zip(x_ticks, _labels(x_ticks), strict=True))
    for value, label in labels:
        half = len(label) * _CHAR_WIDTH / 2
        x = min(max(_x(axes, value), half), WIDTH - half)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{base + 16}" text-anchor="middle">{escape(label)}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(axes.x)}</text>')
    rotation = f'transform="rotate(-90 12 {HEIGHT / 2 - 12})"'
    parts.append(f'<text class="tick" x="12" y="{HEIGHT / 2 - 12}" text-anchor="middle" {rotation}>{escape(axes.y)}</text>')
    return "".join(parts)


def _x(axes: Axes, value: float) -> float:
    low, high = axes.x_range
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / ((high - low) or 1)


def _y(axes: Axes, value: float) -> float:
    low, high = axes.y_range
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / ((high - low) or 1)


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _labels(ticks: Sequence[float]) -> list[str]:
    """Labels of the ticks, with as many decimals as the step between them needs."""
    step = ticks[1] - ticks[0]
    decimals = next((n for n in range(7) if abs(step * 10**n - round(step * 10**n)) < 1e-6), 7)
    return [f"{tick:,.{decimals}f}" for tick in ticks]
