"""report.html: one self-contained page about a run, readable in light and dark, with no script and nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from lsm2.data.quality import MISSING_KINDS
from lsm2.evaluate.tasks import TASKS
from lsm2.report.figures import METHOD_LABELS
from lsm2.report.html import document, figure, section, table
from lsm2.report.summary import best_methods, gains_over_linear


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
            section("Reconstruction of hidden data", _evaluation(evaluation)),
        ]
    else:
        parts.append(
            '<div class="headline"><p>Not evaluated yet: <code>lsm2 evaluate RUN --data STORE</code> adds the numbers.</p></div>'
        )
    parts += [f"<p>{escape(note)}</p>" for note in notes]
    parts += [figure(caption, png) for caption, png in figures.items()]
    if evaluation:
        parts.append(section("Signal by signal", _per_signal(evaluation)))
    if cohort:
        parts.append(section("The data", _cohort(cohort)))
    parts.append(section("Settings", _settings(config)))
    return document(name, parts)


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
        cells += [
            f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else "too few people",
            f"{results['aim']['num_minutes']:,}",
        ]
        rows.append((cells, [*marks, "", ""]))
    header = ["task", *METHOD_LABELS.values(), "AIM, 95 % over people", "minutes scored"]
    whom = "some of them seen in training" if settings.get("all_people") else "none of them seen in training"
    caption = (
        "Mean squared error on normalised values: 1 is a signal's variance in training. "
        f"{settings['num_days']} days of {settings['num_people']} people, {whom}; best in blue"
    )
    skipped = [
        f"{name} ({info['days_skipped']} days)"
        for name, info in evaluation["tasks"].items()
        if info["days_skipped"]
    ]
    notes = [
        "Every method is scored on the same hidden, really measured minutes. The simple fills see every measured minute outside the hidden "
        "tokens, also in tokens with too little data for the model. The person's time of day also sees all other days of that person; the "
        "model sees one day. Same minute: linear regression on the signals visible in that minute, as they go together in other people.",
        f"Days with too little data for a task are left out of it: {', '.join(skipped)}." if skipped else "",
    ]
    return table(header, rows, caption) + "".join(
        f'<p class="soft">{escape(note)}</p>' for note in notes if note
    )


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
                (
                    [*cells, *in_unit, aim["unit"] or "-"],
                    ["", *("best" if method in best else "" for method in per_method), "", "", ""],
                )
            )
        header = ["signal", *METHOD_LABELS.values(), "AIM, mean absolute", "linear, mean absolute", "unit"]
        errors = table(
            header, rows, "Mean squared error on normalised values; mean absolute error in the signal's unit"
        )
        blocks.append(
            f"<details><summary>{escape(TASKS[name].label if name in TASKS else name)}</summary>{errors}</details>"
        )
    return "\n".join(blocks)


def _cohort(cohort: dict[str, Any]) -> str:
    low, high = cohort["missing_of_days"]
    facts = (
        f"{cohort['num_days']} days of {cohort['num_people']} people, {cohort['num_signals']} signals every {cohort['sample_minutes']} min. "
        f"{cohort['missing']:.0%} of it is missing ({low:.0%} to {high:.0%} a day)."
    )
    kinds = [
        ([label, f"{cohort['missing_kinds'][kind]:.1%}"], ["", ""]) for kind, label in MISSING_KINDS.items()
    ]
    rows = []
    for signal in cohort["per_signal"]:
        gap, quantiles = signal["median_gap_minutes"], signal["quantiles"]
        numbers = [_number(q) for q in quantiles] if quantiles else ["-"] * 3
        rows.append(
            (
                [
                    signal["name"].replace("_", " "),
                    signal["unit"] or "-",
                    f"{signal['missing']:.0%}",
                    f"{gap:g}" if gap else "-",
                    *numbers,
                ],
                [""] * 7,
            )
        )
    tables = table(["missing", "of all minutes"], kinds) + (
        "<details><summary>Each signal</summary>"
        + table(["signal", "unit", "missing", "median gap (min)", "5 %", "median", "95 %"], rows)
        + "</details>"
    )
    looked_at = f'<p class="soft">Missingness and quantiles over {cohort["num_days_looked_at"]} days.</p>'
    return f"<p>{escape(facts)}</p>{tables}{looked_at}"


def _settings(config: dict[str, Any]) -> str:
    model = {key: value for key, value in config["model"].items() if key != "masking"}
    tables = [
        ("model", model),
        ("masking", config["model"].get("masking", {})),
        ("training", config["train"]),
    ]
    shown = [
        table([title, ""], [([key.replace("_", " "), str(value)], ["", ""]) for key, value in values.items()])
        for title, values in tables
    ]
    return f'<div class="columns">{"".join(shown)}</div>'


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
