"""What a run folder holds, read with errors that say what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lsm2.data.durable import write_whole
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.generative import FORMAT_VERSION
from lsm2.model.mae import LSM2


@dataclass(frozen=True)
class RunFolder:
    """The folder that `lsm2 pretrain` wrote."""

    path: Path

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json: settings of model and training, people, store."""
        file = self.path / "config.json"
        if not file.is_file():
            raise InputError(f"{self.path} is not a run: it has no config.json; give the folder that `lsm2 pretrain ... --out` wrote")
        return _json(file)

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, none where there is no such file; a last line that a crash cut short is left out."""
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            return []
        lines = file.read_text().splitlines()
        parsed = []
        for number, line in enumerate(lines, start=1):
            try:
                parsed.append(json.loads(line))
            except ValueError:
                if number < len(lines):
                    raise InputError(f"{file} line {number} is not JSON; delete that line or restore the file") from None
        return parsed

    @cached_property
    def evaluation(self) -> dict[str, Any] | None:
        """evaluation.json, or None before `lsm2 evaluate`."""
        file = self.path / "evaluation.json"
        evaluation = _json(file) if file.is_file() else None
        if evaluation and evaluation.get("format_version") != FORMAT_VERSION:
            raise InputError(f"{file} is of an older lsm2; write it anew with `lsm2 evaluate`, or delete it")
        return evaluation

    def model(self) -> LSM2:
        """The trained model, in evaluation mode."""
        if not (self.path / "model").is_dir():
            _ = self.config
            raise InputError(
                f"{self.path} has no model/ yet, as training has not reached a checkpoint; continue it with `lsm2 pretrain ... --resume`"
            )
        return LSM2.from_pretrained(self.path / "model").eval()

    def training_days(self, store: DayStore) -> list[int]:
        """Days of people that the model was trained on."""
        return store.indices_of(self.config["train_subjects"])

    def unseen_days(self, store: DayStore) -> list[int]:
        """Days of all other people."""
        return sorted(set(range(len(store))) - set(self.training_days(store)))

    def store(self, named: Path | None) -> DayStore | None:
        """The store that the user names, else the one of the evaluation or the training if it is still there."""
        if named is not None:
            return DayStore.open(named)
        recorded = [(self.evaluation or {}).get("settings", {}).get("store"), self.config.get("store", {}).get("path")]
        return next((DayStore.open(path) for path in recorded if path and Path(path).is_dir()), None)

    def write(self, name: str, text: str) -> Path:
        """Write a text file of the run so that a reader finds the old one or the new one, never a part of it."""
        path = self.path / name
        write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
        return path


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}); restore it, or write it again") from None
