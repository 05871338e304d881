"""The only list of what a probe compares: which features, and which head reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lsm2.evaluate.methods import AIM, Method


@dataclass(frozen=True)
class ProbeMethod:
    """Features and a head, as tables, figures and explanations show them."""

    name: str
    """In probe.json."""
    label: str
    colour: str
    note: str
    """One sentence for a reader who is no expert."""
    features: tuple[str, ...]
    """Which sets of features the head reads, by name."""
    head: str = "linear"
    """"linear": ridge, logistic or ordinal regression; "boosting": gradient-boosted trees;
    "resnet": a network trained from the days.
    """


RANDOM_INIT, SUMMARY, WEAR, COVARIATES = "random_init", "summary", "wear", "covariates"
DAYS = "days"
"""The days themselves, as `resnet_input` gives them."""
PROBE_METHODS: dict[str, ProbeMethod] = {
    method.name: method
    for method in (
        ProbeMethod("aim", "AIM", "#0b4fb3", "The trained encoder's embeddings, frozen.", (AIM,)),
        ProbeMethod(
            "random_init",
            "untrained encoder",
            "#7fb2e5",
            "The same encoder before any training: what its architecture gives away without learning.",
            (RANDOM_INIT,),
        ),
        ProbeMethod(
            "summary_features",
            "summary statistics",
            "#c8441b",
            "A page of statistics of every signal: mean, spread, quantiles, daily profile, variability, "
            "wear.",
            (SUMMARY,),
        ),
        ProbeMethod(
            "summary_boosting",
            "summary, boosted trees",
            "#e6a100",
            "The same statistics, read by gradient-boosted trees.",
            (SUMMARY,),
            head="boosting",
        ),
        ProbeMethod(
            "wear_only",
            "wear alone",
            "#9a9a9a",
            "What the gaps alone give away: when the device was worn, and nothing of what it measured.",
            (WEAR,),
        ),
        ProbeMethod(
            "covariates",
            "covariates",
            "#1b9e77",
            "Only the columns that the user named, such as age and sex.",
            (COVARIATES,),
        ),
        ProbeMethod(
            "aim_summary",
            "AIM + summary",
            "#5b3f9e",
            "Embeddings and summary statistics together.",
            (AIM, SUMMARY),
        ),
        ProbeMethod(
            "aim_covariates",
            "AIM + covariates",
            "#147a7a",
            "Embeddings and covariates together.",
            (AIM, COVARIATES),
        ),
        ProbeMethod(
            "summary_covariates",
            "summary + covariates",
            "#a1662f",
            "Summary statistics and covariates together.",
            (SUMMARY, COVARIATES),
        ),
        ProbeMethod(
            "supervised_resnet",
            "supervised ResNet",
            "#444444",
            "A convolutional network trained on the days and the labels alone, without any pre-training.",
            (DAYS,),
            head="resnet",
        ),
    )
}
"""By name, in the order of tables."""


def methods_of(available: set[str], other_runs: Iterable[Method]) -> dict[str, ProbeMethod]:
    """The methods whose features are available, and other runs' embeddings after the own."""
    fixed = [method for method in PROBE_METHODS.values() if available.issuperset(method.features)]
    others = [ProbeMethod(run.name, run.label, run.colour, run.note, (run.name,)) for run in other_runs]
    return {method.name: method for method in (*fixed[:1], *others, *fixed[1:])}
