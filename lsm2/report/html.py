"""Self-contained HTML, readable in light and dark, with no script and nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark }
:root { --ink: #1d2126; --soft: #5c6570; --line: #dcdfe3; --paper: #fbfbfa; --mark: #0b4fb3; --tint: #eef3fb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e9; --soft: #9aa3ad; --line: #363b42 }
  :root { --paper: #16181b; --mark: #8ab4f8; --tint: #232c3a }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; font: 16px/1.55 system-ui, sans-serif }
body { color: var(--ink); background: var(--paper); overflow-wrap: break-word }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 } h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem }
p, dl, ul { max-width: 46rem }
.soft, figcaption { color: var(--soft); font-size: .9rem }
.headline { background: var(--tint); border-left: 4px solid var(--mark) }
.headline { padding: .7rem 1rem; margin: 1.2rem 0 }
.headline p { margin: .4rem 0; max-width: none }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
table { font-size: .88rem; margin: .4rem 0 1rem }
th, td { padding: .25rem clamp(.25rem, .8vw, .7rem); text-align: right; border-bottom: 1px solid var(--line) }
th:first-child, td:first-child { text-align: left }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; line-height: 1.25 }
th.upright span { writing-mode: vertical-rl; text-orientation: sideways; transform: rotate(180deg) }
th.upright span { white-space: nowrap }
td { white-space: nowrap } td:first-child { white-space: normal }
td.best { color: var(--mark); font-weight: 700 } td.apart { font-style: italic; font-weight: 700 }
dt { font-weight: 600; margin-top: .5rem } dd { margin: 0 }
dl.grid { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .8rem 0 }
dl.grid dt { margin: 0; color: var(--soft); font-weight: 400 }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em }
figure { margin: 1.6rem 0 }
figure img { max-width: 100%; height: auto; background: #fff }
figure img { border: 1px solid var(--line); border-radius: 6px }
details { margin: .3rem 0 } summary { cursor: pointer }
.columns { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """A page of these parts, which are HTML; empty ones are left out."""
    body = "\n".join(part for part in parts if part)
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{viewport}<title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def section(title: str, content: str) -> str:
    """HTML under a heading."""
    return f"<h2>{escape(title)}</h2>\n{content}"


def paragraphs(texts: Sequence[str], css_class: str = "") -> str:
    """A paragraph for every text that is not empty."""
    attribute = f' class="{css_class}"' if css_class else ""
    return "".join(f"<p{attribute}>{escape(text)}</p>" for text in texts if text)


def definitions(entries: Sequence[tuple[str, str]], css_class: str = "", colours: Sequence[str] = ()) -> str:
    """Terms and what they mean, each with a square of its colour where colours are given."""
    attribute = f' class="{css_class}"' if css_class else ""
    swatches = [f'<span class="swatch" style="background:{colour}"></span>' for colour in colours]
    items = "".join(
        f"<dt>{swatch}{escape(term)}</dt><dd>{escape(meaning)}</dd>"
        for (term, meaning), swatch in zip(entries, swatches or [""] * len(entries), strict=True)
    )
    return f"<dl{attribute}>{items}</dl>"


def details(summary: str, content: str, is_open: bool = False) -> str:
    """HTML that unfolds."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{content}</details>"


def table(
    header: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Sequence[str]]],
    caption: str = "",
    upright: bool = False,
) -> str:
    """A table of rows (cells, css class of each cell); `upright` turns the headers of all but the first
    column.
    """
    css = ' class="upright"' if upright else ""
    head = "".join(
        f"<th{css if number else ''}><span>{escape(cell)}</span></th>" for number, cell in enumerate(header)
    )
    body = "".join(f"<tr>{''.join(map(_cell, cells, marks))}</tr>" for cells, marks in rows)
    content = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'{paragraphs([caption], "soft")}<div class="scroll">{content}</div>'


def _cell(text: str, mark: str) -> str:
    return f'<td class="{mark}">{escape(text)}</td>' if mark else f"<td>{escape(text)}</td>"


def figure(caption: str, png: bytes) -> str:
    """A PNG inside the page."""
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
