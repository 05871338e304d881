"""What a run folder holds: the names of its parts, how they are read and written, and when a run may go on in
it.

config.json       settings of model and training, people, store
model/            what `LSM2.from_pretrained` reads
checkpoints/      from which training resumes
metrics.jsonl     one line per step
evaluation.json   errors of the model and of the other methods
embeddings/       embeddings of days, named by hashes of model and store
probes/           a file per label: how well embeddings predict it; the newest also as probe.json
report.html       one self-contained page; figures lie beside it as PNG
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lsm2.config import BEFORE_SETTING
from lsm2.errors import InputError
from lsm2.files import read_json, write_json, write_whole

FORMAT_VERSION = 2
MAY_CHANGE = {
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.num_workers",
    "train.non_finite",
    "train.device",
    "train.activation_checkpointing",
    "train.compile",
    "train.validate_every",
    "store.path",
}
"""Settings that do not change what is computed, but for the rounding of another device or of compiled code.
"""
ADDED_LATER = {f"model.{name}": value for name, value in BEFORE_SETTING.items()} | {
    "train.validate_every": None,
    "train.patience": None,
    "validation_subjects": [],
}
"""Settings that older runs lack, and what they did."""
_RESTORE = "restore it from a copy, or train anew into another folder"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def config_file(self) -> Path:
        """Settings of the run."""
        return self.path / "config.json"

    @property
    def model_folder(self) -> Path:
        """The model that the run has trained so far."""
        return self.path / "model"

    @property
    def checkpoints_folder(self) -> Path:
        """Checkpoints of the training."""
        return self.path / "checkpoints"

    @property
    def metrics_file(self) -> Path:
        """A line per step."""
        return self.path / "metrics.jsonl"

    @property
    def evaluation_file(self) -> Path:
        """What `lsm2 evaluate` found."""
        return self.path / "evaluation.json"

    @property
    def embeddings_folder(self) -> Path:
        """Embeddings that `lsm2 embed` and `lsm2 probe` have computed."""
        return self.path / "embeddings"

    @property
    def probes_folder(self) -> Path:
        """What `lsm2 probe` found, a file per label."""
        return self.path / "probes"

    @property
    def report_file(self) -> Path:
        """The page of `lsm2 report`."""
        return self.path / "report.html"

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; raises InputError where there is none, or one of another format."""
        if not self.config_file.is_file():
            raise InputError(
                f"{self.path} is not a run: it has no config.json; give the folder that `lsm2 pretrain ... "
                "--out` wrote"
            )
        config = read_json(self.config_file, _RESTORE)
        if config.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"{self.config_file} has format_version {config.get('format_version')!r}, this lsm2 reads "
                f"{FORMAT_VERSION}; "
                "use the lsm2 that wrote it, or train anew into another folder"
            )
        return config

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, none where there is no such file; a last line that a crash cut short is
        left out.
        """
        if not self.metrics_file.is_file():
            return []
        lines = self.metrics_file.read_bytes().splitlines()
        parsed = []
        for number, line in enumerate(lines, start=1):
            try:
                parsed.append(json.loads(line))
            except ValueError:
                if number < len(lines):
                    raise InputError(
                        f"{self.metrics_file} line {number} is not JSON; delete that line or restore the file"
                    ) from None
        return parsed

    def begin(self, settings: dict[str, Any], resume: bool) -> None:
        """Make the folder and its config.json, or with `resume` find out that it holds the same run.

        The one setting that a resumed run may raise is the number of steps. Raises InputError, and changes
        nothing, for a folder in use or a run with other settings.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; name a folder for the run")
        if self.config_file.is_file() and resume:
            self._check_same(settings)
        elif self.path.is_dir() and any(self.path.iterdir()):
            holds_run = self.config_file.is_file()
            found = (
                "already holds a run; add --resume to continue it, or"
                if holds_run
                else "is not empty and holds no run;"
            )
            raise InputError(f"{self.path} {found} choose another folder")
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config_file, settings)

    def write_text(self, file: Path, text: str) -> Path:
        """Write a text file of the run; a reader finds the old one or the new one, never a part of it."""
        write_whole(file, lambda part: part.write_text(text, encoding="utf-8"))
        return file

    def _check_same(self, settings: dict[str, Any]) -> None:
        before, now = ADDED_LATER | dict(_flat(self.config)), ADDED_LATER | dict(_flat(settings))
        for name in sorted((before.keys() | now.keys()) - MAY_CHANGE):
            old, new = before.get(name), now.get(name)
            longer = name == "train.steps" and isinstance(old, int) and isinstance(new, int) and new > old
            if old == new or longer:
                continue
            if isinstance(old, list) and isinstance(new, list):
                raise InputError(
                    f"{self.path} was trained with other {name.replace('_', ' ')} ({len(old)} of them, now "
                    f"{len(new)}); "
                    "resume with the same data, heldout_fraction and seed, or train anew into another folder"
                )
            hint = "; a run can be made longer, not shorter" if name == "train.steps" else ""
            raise InputError(
                f"{self.path} was trained with {name} = {old!r}, now it is {new!r}{hint}; "
                "resume with the same settings and data, or train anew into another folder"
            )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
