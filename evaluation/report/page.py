"""The page around a report: one HTML file that loads nothing, readable at 400 pixels and in the dark.

    html = page("Suite pocket", [section("Accuracy", plot, table), …])

Every text goes through `text`: what models and suites say is never taken for markup.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

# What the page may do: show what it holds, and nothing else; a model's text could not load anything even if it tried.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
STYLE = """
:root{--ink:#1c2024;--soft:#5b6570;--line:#d9dee3;--paper:#fff;--shade:#f5f7f9;
--m0:#1f5fa8;--m1:#b8500f;--m2:#2c7a4b;--m3:#7b4aa0}
@media(prefers-color-scheme:dark){:root{--ink:#e7eaed;--soft:#a3adb7;--line:#39424b;--paper:#14181c;--shade:#1d2329;
--m0:#7db4f0;--m1:#f0a068;--m2:#7fcf9c;--m3:#c9a2ea}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:20px 16px 48px}h1{font-size:1.5rem;line-height:1.25;margin:0 0 6px}
h2{font-size:1.15rem;margin:36px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:18px 0 6px}
p{margin:6px 0;max-width:75ch}.soft,figcaption,small{color:var(--soft)}small,figcaption{font-size:.86rem}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(320px,100%),1fr));gap:20px;align-items:start}
figure{margin:0;min-width:0}svg{display:block;width:100%;max-width:480px;height:auto}
svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
svg text.soft{fill:var(--soft)}svg .axis{stroke:var(--line)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;min-width:100%}
th,td{padding:5px 9px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th{color:var(--soft);font-weight:600}
.card{border:1px solid var(--line);border-radius:8px;padding:12px;background:var(--shade);min-width:0}
.card p,td{overflow-wrap:anywhere}td{min-width:5.5rem}td.n{min-width:0}
img,video{max-width:100%;height:auto;border-radius:4px;background:#fff}img{min-width:96px;image-rendering:auto;max-height:260px}
video{max-height:260px}audio{width:100%}.m0{color:var(--m0)}.m1{color:var(--m1)}.m2{color:var(--m2)}.m3{color:var(--m3)}
.m0,.m1,.m2,.m3{font-weight:600}
.bad{color:#b3261e;font-weight:600}@media(prefers-color-scheme:dark){.bad{color:#ff9d94}}
details{margin:8px 0}summary{cursor:pointer}pre{white-space:pre-wrap;overflow-wrap:anywhere;
font-size:.86rem;background:var(--shade);padding:10px;border-radius:6px}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{POLICY}"><meta name="viewport" content="width=device-width,initial-scale=1"><title>{text(title)}'
        f"</title><style>{STYLE}</style></head><body><main>\n<h1>{text(title)}</h1>\n" + "\n".join(parts)
        + "\n</main></body></html>\n"
    )  # fmt: skip


def section(title: str, *parts: str) -> str:
    """A heading and what belongs to it; empty parts are left out, and a section of nothing as well."""
    kept = [p for p in parts if p]
    return f"<section><h2>{text(title)}</h2>\n" + "\n".join(kept) + "</section>" if kept else ""


def text(value: object) -> str:
    """Harmless in HTML, as content and in attributes; control characters and changes of direction are shown as '�'."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in str(value))
    return html.escape(shown, quote=True)


def para(value: object, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f'<p class="{kind}">{text(value)}</p>' if kind else f"<p>{text(value)}</p>"


def grid(cells: Iterable[str]) -> str:
    """Side by side where there is room."""
    found = [c for c in cells if c]
    return f'<div class="grid">{"".join(found)}</div>' if found else ""


def card(*parts: str) -> str:
    """A box."""
    return f'<div class="card">{"".join(p for p in parts if p)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Cells are HTML already; columns in `numbers` are right-aligned. Scrolls by itself where it is too wide."""
    rows = list(rows)
    if not rows:
        return ""

    def line(cells: Sequence[str], tag: str) -> str:
        made = (f"<{tag}{' class=n' if n in numbers else ''}>{c}</{tag}>" for n, c in enumerate(cells))
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(r, "td") for r in rows)
    return f'<div class="wide"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'


def details(summary: str, content: str) -> str:
    """Folded away."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def mode(name: str, modes: Sequence[str]) -> str:
    """A mode's name in its colour."""
    return f'<span class="m{modes.index(name) % 4}">{text(said(name))}</span>'


def said(name: str) -> str:
    """How a mode is called in prose."""
    return {"end2end": "end-to-end"}.get(name, name)
