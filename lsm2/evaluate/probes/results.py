"""What a probe found, typed, and as probes/TARGET.json holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Score:
    """A metric's mean over folds and repeats, and its 95 % interval by bootstrap over people.

    All three are None where the metric is undefined in every fold.
    """

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe was made."""

    pooling: str
    pca: int
    folds: int
    repeats: int
    seed: int
    labels: str
    """The file."""
    store: str
    machine: str
    versions: str
    made: str
    """Local date and time, ISO 8601."""
    covariates: tuple[str, ...] = ()
    where: str | None = None
    every_minutes: int | None = None


@dataclass(frozen=True)
class MethodNote:
    """How a method is shown."""

    label: str
    colour: str
    note: str


@dataclass(frozen=True)
class ProbeResult:
    """Everything that `lsm2 probe` found on one label."""

    target: str
    kind: str
    level: str
    classes: tuple[str, ...]
    num_people: int
    num_labelled: int
    """Examples: people, days or intervals."""
    num_people_seen: int
    """Of the people, those whose days, but not labels, the pre-training saw."""
    left_out: dict[str, int]
    """Why -> rows of the label file, or examples, that were not used."""
    methods: dict[str, dict[str, Score]]
    """Method -> metric -> score."""
    aim_minus: dict[str, dict[str, Score]]
    """Method -> metric -> the model's score minus that method's, on the same people and folds."""
    shown_as: dict[str, MethodNote]
    settings: ProbeSettings
    label_fractions: dict[str, dict[str, dict[str, Score]]] = field(default_factory=dict)
    """Share of the training people, in percent -> method -> metric -> score; empty unless thorough."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProbeResult:
        """The inverse of `to_dict`; raises KeyError or TypeError for anything else."""
        values = {name: value for name, value in values.items() if name != "format_version"}
        settings = values["settings"] | {"covariates": tuple(values["settings"]["covariates"])}
        return cls(
            **values
            | {
                "classes": tuple(values["classes"]),
                "methods": _scores(values["methods"]),
                "aim_minus": _scores(values["aim_minus"]),
                "shown_as": {name: MethodNote(**note) for name, note in values["shown_as"].items()},
                "settings": ProbeSettings(**settings),
                "label_fractions": {
                    percent: _scores(found) for percent, found in values["label_fractions"].items()
                },
            }
        )


def _scores(methods: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Score]]:
    return {
        name: {metric: Score(**score) for metric, score in found.items()} for name, found in methods.items()
    }
