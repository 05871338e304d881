"""The words and marks that the table on the terminal and the page share."""

from __future__ import annotations

from typing import Any

from lsm2.evaluate.tasks import TASKS

HEADLINE_TASKS = ("random_80", "signal_imputation_2")


def best_methods(results: dict[str, dict[str, Any]]) -> set[str]:
    """The methods of one task with the lowest mean squared error."""
    lowest = min(result["mse"] for result in results.values())
    return {method for method, result in results.items() if result["mse"] == lowest}


def gains_over_linear(evaluation: dict[str, Any]) -> list[str]:
    """One sentence for each headline task: what AIM gained over linear interpolation, or lost."""
    lines = []
    for name in HEADLINE_TASKS:
        results = evaluation["generative"].get(name)
        if results is None:
            continue
        aim, linear = results["aim"]["mse"], results["linear"]["mse"]
        better = "lower" if aim <= linear else "HIGHER"
        if not linear:
            continue
        interval = evaluation["tasks"][name]["aim_over"]["linear"]["interval"]
        certainty = (
            f"; ratio {interval[0]:.2f} to {interval[1]:.2f} with 95 % over people" if interval else ""
        )
        winner = "" if "aim" in best_methods(results) else f"; best: {_winners(results)}"
        lines.append(
            f"{TASKS[name].label}: AIM's squared error is {abs(1 - aim / linear):.0%} {better} than linear interpolation's "
            f"({aim:.3f} against {linear:.3f}{certainty}){winner}"
        )
    return lines


def _winners(results: dict[str, dict[str, Any]]) -> str:
    return ", ".join(sorted(method.replace("_", " ") for method in best_methods(results)))
