"""Self-contained HTML, readable in light and dark, with no script and nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #5c6570; --line: #dcdfe3; --paper: #fbfbfa; --mark: #0b4fb3; --tint: #eef3fb }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e9; --soft: #9aa3ad; --line: #363b42; --paper: #16181b; --mark: #8ab4f8; --tint: #232c3a }
}
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; font: 16px/1.55 system-ui, sans-serif }
body { color: var(--ink); background: var(--paper) }
h1 { font-size: 1.7rem; margin: 0 } h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem } p { max-width: 46rem }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem }
.headline { background: var(--tint); border-left: 4px solid var(--mark); padding: .7rem 1rem; margin: 1.2rem 0 }
.headline p { margin: .2rem 0; max-width: none }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; margin: .4rem 0 1rem }
th, td { padding: .28rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } thead th { color: var(--soft); font-weight: 600 }
td.best { color: var(--mark); font-weight: 700 } caption { text-align: left; padding-bottom: .3rem }
figure { margin: 1.6rem 0 }
figure img { max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px }
details { margin: .3rem 0 } summary { cursor: pointer }
.columns { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start }
"""


def document(title: str, parts: Sequence[str]) -> str:
    """A page of these parts, which are HTML; empty ones are left out."""
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'


def section(title: str, content: str) -> str:
    """HTML under a heading."""
    return f"<h2>{escape(title)}</h2>\n{content}"


def table(
    header: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[str]]], caption: str = ""
) -> str:
    """A table of rows (cells, css class of each cell)."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(map(_cell, cells, marks))}</tr>" for cells, marks in rows)
    shown_caption = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{shown_caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str, mark: str) -> str:
    return f'<td class="{mark}">{escape(text)}</td>' if mark else f"<td>{escape(text)}</td>"


def figure(caption: str, png: bytes) -> str:
    """A PNG inside the page."""
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'
