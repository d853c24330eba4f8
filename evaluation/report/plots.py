"""Plots as inline SVG, 360 units wide so that their words stay readable on a telephone and on a desk.

    intervals("Facts kept", [Line("text-to-image", {"cascade": Point(0.8, 0.7, 0.9, 6), "end2end": None})], modes)
    curve("Fidelity", {"cascade": [Point(1, 1, 1, 9), …]}, modes)

Modes differ by colour and by mark (circle, square, triangle, diamond). A missing point is said in words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .page import said, text

WIDE, LEFT, RIGHT = 360, 14, 62


@dataclass(frozen=True)
class Point:
    """A mean with its interval, over `n` items."""

    mean: float
    low: float
    high: float
    n: int = 0


@dataclass(frozen=True)
class Line:
    """One row of an interval plot. `notes`: what to say of a mode without a point."""

    label: str
    points: Mapping[str, Point | None]
    notes: Mapping[str, str] = field(default_factory=dict)


def legend(modes: Sequence[str]) -> str:
    """Which mark is which mode, as HTML."""
    marks = "".join(
        f'<svg width="14" height="14" viewBox="0 0 14 14" style="display:inline;width:14px;vertical-align:-1px" '
        f'aria-hidden="true">{mark(n, 7, 7)}</svg> <span class="m{n % 4}">{text(said(m))}</span> &nbsp; '
        for n, m in enumerate(modes)
    )
    return f"<p>{marks}</p>"


def intervals(
    title: str, lines: Sequence[Line], modes: Sequence[str], unit: str = "", top: float | None = None, note: str = ""
) -> str:
    """Rows of means with 95% intervals, a mark for each mode. `top` is the right end (default: what fits)."""
    lines = [line for line in lines if any(line.points.values()) or line.notes]
    points = [p for line in lines for p in line.points.values() if p]
    if not points:
        return ""
    top = top or nice(max(p.high for p in points))
    step, y, out = 23 + 15 * len(modes), 8, []
    height = step * len(lines) + 34

    def x(value: float) -> float:
        return LEFT + (WIDE - LEFT - RIGHT) * min(1.0, max(0.0, value / top))

    for tick in range(5):
        at = x(top * tick / 4)
        out.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="6" y2="{height - 24}"/>')
        out.append(
            f'<text class="soft" x="{at:.1f}" y="{height - 8}" text-anchor="middle">'
            f"{number(top * tick / 4)}{unit if tick == 4 else ''}</text>"
        )
    for line in lines:
        out.append(f'<text x="{LEFT}" y="{y + 10}">{text(line.label)}</text>')
        for n, name in enumerate(modes):
            at = y + 22 + 15 * n
            out.append(_row(n, at, line.points.get(name), line.notes.get(name, ""), x, unit))
        y += step
    return figure(title, height, out, note)


def _row(n: int, y: float, point: Point | None, note: str, x: object, unit: str) -> str:
    assert callable(x)
    if point is None:
        return (
            f'<text class="soft" x="{LEFT + 6}" y="{y + 4}" style="font-size:11px">{text(note)}</text>' if note else ""
        )
    return (
        f'<g style="color:var(--m{n % 4})"><line x1="{x(point.low):.1f}" x2="{x(point.high):.1f}" y1="{y}" y2="{y}" '
        f'stroke="currentColor" stroke-width="2.5" opacity=".55"/>{mark(n, x(point.mean), y)}</g>'
        f'<text x="{WIDE - 2}" y="{y + 4}" text-anchor="end">{number(point.mean)}{unit}</text>'
    )


@dataclass(frozen=True)
class Bar:
    """A length with its name, in the colour of the n-th mode."""

    label: str
    value: float
    mode: int = 0


def bars(title: str, rows: Sequence[Bar], unit: str = "") -> str:
    """Lengths from 0, each under its name."""
    if not rows:
        return ""
    top, out = max(max(r.value for r in rows), 1e-9), []
    for n, row in enumerate(rows):
        y, wide = 6 + 34 * n, (WIDE - LEFT - RIGHT) * max(0.0, row.value) / top
        out.append(f'<text x="{LEFT}" y="{y + 10}">{text(row.label)}</text>')
        out.append(
            f'<rect x="{LEFT}" y="{y + 15}" width="{max(1.0, wide):.1f}" height="9" rx="2" '
            f'style="fill:var(--m{row.mode % 4})"/>'
        )
        out.append(f'<text x="{WIDE - 2}" y="{y + 24}" text-anchor="end">{number(row.value)}{text(unit)}</text>')
    return figure(title, 34 * len(rows) + 10, out)


def curve(
    title: str, lines: Mapping[str, Sequence[Point | None]], modes: Sequence[str], across: str, note: str = ""
) -> str:
    """A mean for each step along a chain, with its 95% band, from 0 to 1. Step 0 is the first of each line."""
    lines = {m: points for m, points in lines.items() if any(points)}
    if not lines:
        return ""
    steps = max(len(points) for points in lines.values()) - 1
    height, base, top, left = 236, 196, 14, 34

    def x(k: int) -> float:
        return left + (WIDE - left - 12) * k / max(1, steps)

    def y(value: float) -> float:
        return base - (base - top) * min(1.0, max(0.0, value))

    out = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        out.append(f'<line class="axis" x1="{left}" x2="{WIDE - 12}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        out.append(f'<text class="soft" x="{left - 5}" y="{y(tick) + 4:.1f}" text-anchor="end">{number(tick)}</text>')
    out += [
        f'<text class="soft" x="{x(k):.1f}" y="{base + 16}" text-anchor="middle">{k}</text>' for k in range(steps + 1)
    ]
    out.append(f'<text class="soft" x="{(left + WIDE) / 2}" y="{base + 34}" text-anchor="middle">{text(across)}</text>')
    for name, points in lines.items():
        n = modes.index(name)
        there = [(k, p) for k, p in enumerate(points) if p]
        band = [f"{x(k):.1f},{y(p.high):.1f}" for k, p in there] + [
            f"{x(k):.1f},{y(p.low):.1f}" for k, p in reversed(there)
        ]
        way = " ".join(f"{x(k):.1f},{y(p.mean):.1f}" for k, p in there)
        marks = "".join(mark(n, x(k), y(p.mean)) for k, p in there)
        out.append(
            f'<g style="color:var(--m{n % 4})"><polygon points="{" ".join(band)}" fill="currentColor" opacity=".13"/>'
            f'<polyline points="{way}" fill="none" stroke="currentColor" stroke-width="2"/>{marks}</g>'
        )
    return figure(title, height, out, note)


def mark(n: int, x: float, y: float) -> str:
    """The mark of the n-th mode."""
    r = 4.5
    if n % 4 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="currentColor" style="color:var(--m0)"/>'
    turns, start = ((4, 0.125), (3, 0.0), (4, 0.0))[n % 4 - 1]
    ways = [(start + k / turns) * math.tau for k in range(turns)]
    corners = " ".join(f"{x + 1.25 * r * math.sin(way):.1f},{y - 1.25 * r * math.cos(way):.1f}" for way in ways)
    return f'<polygon points="{corners}" fill="currentColor" style="color:var(--m{n % 4})"/>'


def figure(title: str, height: float, parts: Sequence[str], note: str = "") -> str:
    """The SVG with its title above and its note below."""
    below = f"<figcaption>{text(note)}</figcaption>" if note else ""
    return (
        f'<figure><h3>{text(title)}</h3><svg viewBox="0 0 {WIDE} {height:g}" role="img" aria-label="{text(title)}">'
        f"{''.join(parts)}</svg>{below}</figure>"
    )


def nice(value: float) -> float:
    """The next round number above."""
    if value <= 0:
        return 1.0
    unit: float = 10.0 ** math.floor(math.log10(value))
    return next((m * unit for m in (1, 1.5, 2, 3, 4, 5, 8, 10) if m * unit >= value), 10 * unit)


def number(value: float) -> str:
    """Three digits at most, without idle zeros."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.{1 if value >= 10 else 2}f}".rstrip("0").rstrip(".") if value else "0"
