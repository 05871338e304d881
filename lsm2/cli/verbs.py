"""All verbs of `lsm2`, in the order in which a user meets them."""

from __future__ import annotations

from collections.abc import Mapping

from lsm2.cli.command import Group, Verb
from lsm2.cli.data import IMPORTERS, info, simulate
from lsm2.cli.evaluate import evaluate
from lsm2.cli.train import PRESETS
from lsm2.cli.use import plot, report

VERBS: Mapping[str, Verb | Group] = {
    "simulate": simulate,
    "import": IMPORTERS,
    "info": info,
    "pretrain": PRESETS,
    "evaluate": evaluate,
    "plot": plot,
    "report": report,
}
