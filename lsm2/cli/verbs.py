"""All verbs of `lsm2`, in the order in which a user meets them."""

from __future__ import annotations

from lsm2.cli.command import Group
from lsm2.cli.data import IMPORTERS, info, simulate
from lsm2.cli.evaluate import evaluate
from lsm2.cli.probe import embed, probe
from lsm2.cli.train import PRESETS
from lsm2.cli.use import plot, report

DESCRIPTION = """\
Pre-train and evaluate masked autoencoders on incomplete wearable-sensor data.

Help on one command: lsm2 COMMAND --help. Versions: lsm2 --version.

Tab completion: source what lsm2 --tyro-write-completion bash FILE writes."""

VERBS = Group(
    "command",
    DESCRIPTION,
    lambda: {
        "simulate": simulate,
        "import": IMPORTERS,
        "info": info,
        "pretrain": PRESETS,
        "evaluate": evaluate,
        "embed": embed,
        "probe": probe,
        "plot": plot,
        "report": report,
    },
)
