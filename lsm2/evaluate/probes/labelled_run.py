"""A probe of a run from its folder, a store and a label file: features of every method, compared and
recorded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from lsm2.config import FillGaps, Pooling
from lsm2.data.labels import Labels
from lsm2.data.store import DayStore
from lsm2.errors import InputError
from lsm2.evaluate.embeddings import embed_labelled, num_cells, untrained
from lsm2.evaluate.machine import describe_machine, describe_versions
from lsm2.evaluate.methods import compared_methods, name_runs
from lsm2.evaluate.probes.features import summary_features, wear_features
from lsm2.evaluate.probes.folds import NUM_FOLDS
from lsm2.evaluate.probes.methods import (
    AIM,
    COVARIATES,
    DAYS,
    PROBE_METHODS,
    RANDOM_INIT,
    SUMMARY,
    WEAR,
    ProbeMethod,
    methods_of,
)
from lsm2.evaluate.probes.probe import Compared, compare_methods, fractions_of
from lsm2.evaluate.probes.resnet_input import resnet_input
from lsm2.evaluate.probes.results import FORMAT_VERSION, MethodNote, ProbeResult, ProbeSettings
from lsm2.evaluate.trained_run import trained_model
from lsm2.files import file_name, read_json, write_json
from lsm2.run_folder import RunFolder

FEWEST_PEOPLE = 10
NO_DATA = "no token observed"
IN_CURVES = ("aim", "random_init", "summary_features", "covariates", "supervised_resnet")


def probe_run(
    run: RunFolder,
    store: DayStore,
    labels: Labels,
    labels_file: Path,
    *,
    pooling: Pooling = "signals",
    against: Sequence[RunFolder] = (),
    repeats: int = 3,
    pca: int = 50,
    seed: int = 0,
    thorough: bool = False,
    where: str | None = None,
    every_minutes: int | None = None,
    progress: bool = False,
) -> ProbeResult:
    """Compare the run's frozen embeddings with the other methods on these labels.

    Examples without an embedding are left out for every method, and counted. thorough: a supervised
    ResNet and label-fraction curves too. Raises InputError for too few people, and where model and store do
    not fit.
    """
    if find_spec("sklearn") is None:
        raise InputError("probes need scikit-learn, which is not installed: pip install scikit-learn")
    for name, value, least in (("repeats", repeats, 1), ("pca", pca, 0), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = trained_model(run).to(device)
    features = {
        AIM: embed_labelled(run, model, store, labels, pooling, progress=progress),
        RANDOM_INIT: embed_labelled(
            run, untrained(model), store, labels, pooling, "untrained", progress=progress
        ),
        SUMMARY: summary_features(store, labels, progress=progress),
        WEAR: wear_features(store, labels, progress=progress),
    }
    if thorough:
        assert model.normalization is not None
        features[DAYS] = resnet_input(store, labels, model.normalization, progress=progress)
    cells: dict[str, int] = dict.fromkeys((AIM, RANDOM_INIT), num_cells(model.config))
    other_models = [trained_model(other).to(device) for other in against]
    filled: list[tuple[str, FillGaps]] = [
        (str(other.path), other_model.config.fill_gaps)
        for other, other_model in zip(against, other_models, strict=True)
    ]
    named_runs = name_runs(filled)
    for other, other_model, named in zip(against, other_models, named_runs, strict=True):
        if named.name in features or named.name in PROBE_METHODS:
            raise InputError(
                f"{other.path} has the name of another method, {named.name!r}; rename the folder"
            )
        cells[named.name] = num_cells(other_model.config)
        features[named.name] = embed_labelled(other, other_model, store, labels, pooling, progress=progress)
    compared_as = compared_methods(named_runs)
    others = {named.name: compared_as[named.name] for named in named_runs}
    if labels.covariate_names:
        features[COVARIATES] = labels.covariates
    labels, features = _with_data(labels, features, (AIM, *others))
    people = set(labels.subjects)
    if len(people) < FEWEST_PEOPLE:
        raise InputError(
            f"{labels_file} labels {len(people)} people of {store.path} with {labels.target}; "
            f"a probe needs at least {FEWEST_PEOPLE}"
        )
    methods = methods_of(set(features), others.values())

    def compare(some: Mapping[str, ProbeMethod], percent: int) -> Compared:
        return compare_methods(
            labels,
            some,
            features,
            repeats=repeats,
            seed=seed,
            pca=pca,
            label_percent=percent,
            num_cells=cells if pooling == "attentive" else {},
            progress=progress,
        )

    compared = compare(methods, 100)
    in_curves = {name: method for name, method in methods.items() if name in IN_CURVES or name in others}
    percents = fractions_of(labels) if thorough else []
    curves = {str(percent): compare(in_curves, percent).methods for percent in percents}
    return ProbeResult(
        target=labels.target,
        kind=labels.kind,
        level=labels.level,
        classes=labels.classes,
        num_people=len(people),
        num_labelled=len(labels.subjects),
        num_people_seen=len(people.intersection(run.config["train_subjects"])),
        left_out=labels.left_out,
        methods=compared.methods,
        aim_minus=compared.aim_minus,
        shown_as={
            name: MethodNote(method.label, method.colour, method.note) for name, method in methods.items()
        },
        settings=ProbeSettings(
            pooling=pooling,
            pca=pca,
            folds=NUM_FOLDS,
            repeats=repeats,
            seed=seed,
            labels=str(labels_file),
            store=str(store.path),
            machine=describe_machine(device),
            versions=describe_versions(),
            made=datetime.now().astimezone().isoformat(timespec="seconds"),
            covariates=labels.covariate_names,
            where=where,
            every_minutes=every_minutes,
        ),
        label_fractions=curves,
    )


def _with_data(
    labels: Labels, features: dict[str, np.ndarray], embedded: Sequence[str]
) -> tuple[Labels, dict[str, np.ndarray]]:
    """The examples that every embedding is defined for."""
    defined = np.all([~np.isnan(features[name]).all(1) for name in embedded], axis=0)
    if defined.all():
        return labels, features
    kept = np.flatnonzero(defined)

    def some(values: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if values is None else tuple(values[row] for row in kept)

    subjects = some(labels.subjects)
    assert subjects is not None
    fewer = dataclasses.replace(
        labels,
        subjects=subjects,
        dates=some(labels.dates),
        spans=None if labels.spans is None else labels.spans[kept],
        values=labels.values[kept],
        covariates=labels.covariates[kept],
        left_out=labels.left_out | {NO_DATA: int((~defined).sum())},
    )
    return fewer, {name: rows[kept] for name, rows in features.items()}


def write_probe(run: RunFolder, result: ProbeResult) -> Path:
    """Write probes/TARGET.json, and the same as probe.json; returns the first.

    A target that cannot name a file gives a name with a hash of it.
    """
    file = run.probes_folder / f"{file_name(result.target, distinct=True)}.json"
    run.probes_folder.mkdir(exist_ok=True)
    for path in (file, run.path / "probe.json"):
        write_json(path, result.to_dict())
    return file


def read_probes(run: RunFolder) -> list[ProbeResult]:
    """All that `lsm2 probe` found on a run, by name of the label; raises InputError for a damaged file."""
    found = []
    for file in sorted(run.probes_folder.glob("*.json")):
        remedy = "write it anew with `lsm2 probe`, or delete it"
        values = read_json(file, remedy)
        try:
            if values.pop("format_version", None) != FORMAT_VERSION:
                raise InputError(f"{file} is of another lsm2; {remedy}")
            found.append(ProbeResult.from_dict(values))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file} does not hold a probe ({error!r}); {remedy}") from None
    return found
