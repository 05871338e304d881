"""report.html: one self-contained page about a run, readable in light and dark, with no script and nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

from lsm2.evaluate.tasks import TASKS
from lsm2.report.cohort import MISSING_KINDS
from lsm2.report.plots import METHOD_LABELS
from lsm2.report.summary import best_methods, gains_over_linear

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
figure img { width: 100%; height: auto; background: #fff; border: 1px solid var(--line); border-radius: 6px }
details { margin: .3rem 0 } summary { cursor: pointer }
.columns { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start }
"""


def render_page(
    *,
    name: str,
    config: dict[str, Any],
    metrics: Sequence[dict[str, Any]],
    evaluation: dict[str, Any] | None,
    cohort: dict[str, Any] | None,
    figures: dict[str, bytes],
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML: figures are PNGs by caption; notes say what could not be shown, and why; evaluation and cohort may be absent."""
    parts = [f"<h1>{escape(name)}</h1>", f'<p class="soft">{escape(_subtitle(config, metrics))}</p>']
    if evaluation:
        gains = "".join(f"<p>{escape(line)}</p>" for line in gains_over_linear(evaluation))
        parts += [
            f'<div class="headline">{gains}</div>' if gains else "",
            _section("Reconstruction of hidden data", _evaluation(evaluation)),
        ]
    else:
        parts.append('<div class="headline"><p>Not evaluated yet: <code>lsm2 evaluate RUN --data STORE</code> adds the numbers.</p></div>')
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    parts += [_figure(caption, png) for caption, png in figures.items()]
    if evaluation:
        parts.append(_section("Signal by signal", _per_signal(evaluation)))
    if cohort:
        parts.append(_section("The data", _cohort(cohort)))
    parts.append(_section("Settings", _settings(config)))
    body = "\n".join(part for part in parts if part)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(name)}</title>'
    return f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}"


def _subtitle(config: dict[str, Any], metrics: Sequence[dict[str, Any]]) -> str:
    model = config["model"]
    said = [
        f"AIM masked autoencoder, encoder {model['encoder_width']} wide and {model['encoder_depth']} deep, decoder {model['decoder']}",
        f"trained on {len(config['train_subjects'])} people, {len(config['heldout_subjects'])} held out",
    ]
    if metrics:
        minutes = metrics[-1].get("seconds", 0) / 60
        said.append(f"{metrics[-1]['step']} steps" + (f" in {minutes:.1f} min" if minutes else ""))
    return "; ".join(said)


def _evaluation(evaluation: dict[str, Any]) -> str:
    rows, settings = [], evaluation["settings"]
    for name, results in evaluation["generative"].items():
        best = best_methods(results)
        cells = [TASKS[name].label if name in TASKS else name]
        marks = [""]
        for method in METHOD_LABELS:
            cells.append(f"{results[method]['mse']:.3f}")
            marks.append("best" if method in best else "")
        interval = results["aim"]["mse_interval"]
        cells += [f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "too few people", f"{results['aim']['num_minutes']:,}"]
        rows.append((cells, [*marks, "", ""]))
    header = ["task", *METHOD_LABELS.values(), "AIM, 95 % over people", "minutes scored"]
    whom = "some of them seen in training" if settings.get("all_people") else "none of them seen in training"
    caption = (
        "Mean squared error on normalised values: 1 is a signal's variance in training. "
        f"{settings['num_days']} days of {settings['num_people']} people, {whom}; best in blue"
    )
    skipped = [f"{name} ({info['days_skipped']} days)" for name, info in evaluation["tasks"].items() if info["days_skipped"]]
    notes = [
        "Every method is scored on the same hidden, really measured minutes. The simple fills see every measured minute outside the hidden "
        "tokens, also in tokens with too little data for the model. The person's time of day also sees all other days of that person; the "
        "model sees one day.",
        f"Days with too little data for a task are left out of it: {', '.join(skipped)}." if skipped else "",
    ]
    return _table(header, rows, caption) + "".join(f'<p class="soft">{escape(note)}</p>' for note in notes if note)


def _per_signal(evaluation: dict[str, Any]) -> str:
    blocks = []
    for name, results in evaluation["generative"].items():
        rows = []
        for signal, aim in results["aim"]["per_signal"].items():
            per_method = {method: results[method]["per_signal"][signal] for method in METHOD_LABELS}
            best = best_methods(per_method)
            cells = [signal.replace("_", " "), *(f"{result['mse']:.3f}" for result in per_method.values())]
            in_unit = [_number(per_method[method]["mae_in_unit"]) for method in ("aim", "linear")]
            rows.append(
                ([*cells, *in_unit, aim["unit"] or "-"], ["", *("best" if method in best else "" for method in per_method), "", "", ""])
            )
        header = ["signal", *METHOD_LABELS.values(), "AIM, mean absolute", "linear, mean absolute", "unit"]
        table = _table(header, rows, "Mean squared error on normalised values; mean absolute error in the signal's unit")
        blocks.append(f"<details><summary>{escape(TASKS[name].label if name in TASKS else name)}</summary>{table}</details>")
    return "\n".join(blocks)


def _cohort(cohort: dict[str, Any]) -> str:
    low, high = cohort["missing_of_days"]
    facts = (
        f"{cohort['num_days']} days of {cohort['num_people']} people, {cohort['num_signals']} signals every {cohort['epoch_minutes']} min. "
        f"{cohort['missing']:.0%} of it is missing ({low:.0%} to {high:.0%} a day)."
    )
    kinds = [([label, f"{cohort['missing_kinds'][kind]:.1%}"], ["", ""]) for kind, label in MISSING_KINDS.items()]
    rows = []
    for signal in cohort["per_signal"]:
        gap, quantiles = signal["median_gap_minutes"], signal["quantiles"]
        numbers = [_number(q) for q in quantiles] if quantiles else ["-"] * 3
        rows.append(
            (
                [signal["name"].replace("_", " "), signal["unit"] or "-", f"{signal['missing']:.0%}", f"{gap:g}" if gap else "-", *numbers],
                [""] * 7,
            )
        )
    tables = _table(["missing", "of all minutes"], kinds) + (
        "<details><summary>Each signal</summary>"
        + _table(["signal", "unit", "missing", "median gap (min)", "5 %", "median", "95 %"], rows)
        + "</details>"
    )
    looked_at = f'<p class="soft">Missingness and quantiles over {cohort["num_days_looked_at"]} days.</p>'
    return f"<p>{escape(facts)}</p>{tables}{looked_at}"


def _settings(config: dict[str, Any]) -> str:
    model = {key: value for key, value in config["model"].items() if key != "masking"}
    tables = [("model", model), ("masking", config["model"].get("masking", {})), ("training", config["train"])]
    shown = [
        _table([title, ""], [([key.replace("_", " "), str(value)], ["", ""]) for key, value in values.items()]) for title, values in tables
    ]
    return f'<div class="columns">{"".join(shown)}</div>'


def _table(header: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[str]]], caption: str = "") -> str:
    """A table of rows (cells, css class of each cell)."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(map(_cell, cells, marks))}</tr>" for cells, marks in rows)
    shown_caption = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{shown_caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str, mark: str) -> str:
    return f'<td class="{mark}">{escape(text)}</td>' if mark else f"<td>{escape(text)}</td>"


def _figure(caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
