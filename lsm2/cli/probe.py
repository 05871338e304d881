"""Verbs that use frozen embeddings: embed, probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from lsm2.config import Pooling
from lsm2.progress import say


def embed(
    run: Positional[Path],
    /,
    *,
    data: Path,
    out: Path,
    level: Literal["day", "person"] = "day",
    labels: Path | None = None,
    pooling: Pooling = "signals",
) -> None:
    """Write embeddings of days, of people or of intervals to a Parquet file.

    Args:
        run: Folder of a run.
        data: Folder of a store.
        out: The Parquet file: a row per day, person or interval, with a list of numbers, `embedding`.
        level: What a row is: a day, or a person (the mean over their days).
        labels: Instead, embed the intervals of this CSV or Parquet with the columns subject, start and end.
        pooling: How the tokens of a row become one list: their mean; mean and deviation; means of each 6
            hours; means of each signal; means of each signal in each 3 hours, for attentive probes.
    """
    import torch

    from lsm2.data.store import DayStore
    from lsm2.evaluate.embeddings import embedding_table, write_embeddings
    from lsm2.evaluate.trained_run import trained_model
    from lsm2.run_folder import RunFolder

    folder, store = RunFolder(run), DayStore.open(data)
    model = trained_model(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    table = embedding_table(folder, model, store, level, labels, pooling, progress=True)
    write_embeddings(out, table)
    rows = "intervals" if labels else {"day": "days", "person": "people"}[level]
    say(f"{out}: {table.num_rows} {rows}, {table['embedding'].type.list_size} numbers each")


def probe(
    run: Positional[Path],
    /,
    *,
    data: Path,
    labels: Path,
    target: str,
    kind: Literal["binary", "multiclass", "ordinal", "regression"] | None = None,
    covariates: tuple[str, ...] = (),
    where: str | None = None,
    every_minutes: int | None = None,
    against: Annotated[tuple[Path, ...], arg(metavar="RUN ...")] = (),
    pooling: Pooling = "signals",
    pca: int = 50,
    repeats: int | None = None,
    seed: int = 0,
    thorough: bool = False,
) -> None:
    """Tell how well embeddings predict a label, beside summaries and others.

    Args:
        run: Folder of a run.
        data: Folder of a store.
        labels: CSV or Parquet with a label per subject; per subject and date; or per subject, start and end.
        target: Its column to predict.
        kind: What the column holds, where its values do not tell.
        covariates: Columns of the same file that compete with the embeddings, such as age and sex.
        where: Only rows for which this holds, such as "age_years >= 20".
        every_minutes: Cut intervals into windows of so many minutes.
        against: Folders of other runs whose embeddings compete.
        pooling: How tokens become one embedding, as in `lsm2 embed`.
        pca: Reduce features of more than so many columns to so many components; 0 reduces none.
        repeats: Draw the folds so many times; 3, or 10 with --thorough.
        seed: Seed of folds and intervals.
        thorough: Add a supervised network, and what fewer labels would give.
    """
    from lsm2.data.labels import read_labels
    from lsm2.data.store import DayStore
    from lsm2.evaluate.probes.labelled_run import probe_run, write_probe
    from lsm2.report.probes import show_probe
    from lsm2.run_folder import RunFolder

    folder, store = RunFolder(run), DayStore.open(data)
    found = probe_run(
        folder,
        store,
        read_labels(
            labels, target, store, kind=kind, covariates=covariates, where=where, every_minutes=every_minutes
        ),
        labels,
        pooling=pooling,
        against=[RunFolder(other) for other in against],
        repeats=(10 if thorough else 3) if repeats is None else repeats,
        pca=pca,
        seed=seed,
        thorough=thorough,
        where=where,
        every_minutes=every_minutes,
        progress=True,
    )
    file = write_probe(folder, found)
    show_probe(found)
    say(f"written to {file}; next: lsm2 report {run}")
