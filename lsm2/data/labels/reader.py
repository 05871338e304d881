"""A label file and a store become labelled examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lsm2.data.labels.columns import Columns, covariate_columns, open_table
from lsm2.data.labels.values import Kind, check_kind, check_predictable, classes_or_numbers, find_kind
from lsm2.data.labels.where import Condition
from lsm2.data.labels.whose import (
    KEYS,
    Labels,
    Whose,
    cut,
    find_level,
    in_store,
    read_dates,
    read_spans,
    subject_names,
)
from lsm2.data.store import DayStore
from lsm2.errors import InputError

_NAMED_IN_ERRORS = 5


def read_labels(
    path: Path | str,
    target: str,
    store: DayStore,
    *,
    kind: Kind | None = None,
    covariates: Sequence[str] = (),
    where: str | None = None,
    every_minutes: int | None = None,
) -> Labels:
    """Labels of the column `target` of a CSV (also .csv.gz) or Parquet file, for people of the store.

    The columns say what a row speaks of: `subject` a person, `subject` and `date` a day, `subject`, `start`
    and `end` an interval of local wall clock with dates, which may cross midnight. Rows without a label, rows
    for which `where` is not true and rows about days that the store has not are left out and counted.

    kind: found from the labels unless told. Two different values are binary; text is multiclass; integers of
        at most 10 different values are multiclass, other numbers regression. `ordinal` must be told.
    covariates: further columns of numbers or text.
    where: a condition on the columns, such as `age_years >= 20 and sex == "female"`.
    every_minutes: cut each interval into windows of this length.

    Raises InputError naming file, row and column of what cannot be read, the people who are not in the store,
    a person, day or interval with two rows, and labels that cannot be predicted: one value, or a class of one
    person.
    """
    file = open_table(Path(path))
    check_kind(kind)
    level = find_level(file)
    if every_minutes is not None and (level != "interval" or every_minutes < 1):
        raise InputError(
            f"--every-minutes {every_minutes}: it cuts intervals into windows of at least 1 minute, and "
            f"{file.path} has labels of {level}s"
        )
    _check_named(target, covariates, KEYS[level])
    file.require(target, "--target")
    for name in covariates:
        file.require(name, "--covariates")
    condition = None if where is None else Condition(where, file)
    columns = Columns(file, [*KEYS[level], target, *covariates, *(condition.columns if condition else ())])

    left_out: dict[str, int] = {}
    chosen = np.ones(columns.num_rows, dtype=bool) if condition is None else condition.holds(columns)
    if not chosen.all():
        left_out[f"not where {where}"] = int((~chosen).sum())
    cells = columns.typed(target)
    labelled = cells.is_valid().to_numpy(zero_copy_only=False)
    if missing := int((chosen & ~labelled).sum()):
        left_out["label missing"] = missing
    rows = np.flatnonzero(chosen & labelled)
    if not len(rows):
        raise _none_left(file.path, target, left_out)
    subjects = subject_names(columns)
    _check_known(subjects[rows], store, file.path)

    whose = Whose(rows, None, None)
    if level == "day":
        whose = read_dates(columns, rows)
    elif level == "interval":
        whose = read_spans(columns, rows, left_out)
    _check_once(whose, subjects, columns)
    if every_minutes is not None:
        whose = cut(whose, every_minutes, left_out)
    if level != "person":
        whose = in_store(whose, subjects, store, left_out)
    if not len(whose.rows):
        raise _none_left(file.path, target, left_out)

    labels = cells.take(pa.array(whose.rows))
    kind = find_kind(labels, kind, target)
    values, classes = classes_or_numbers(labels, kind)
    people = tuple(subjects[whose.rows].tolist())
    check_predictable(values, classes, people, kind, target)
    covariate_values, covariate_names = covariate_columns(columns, covariates, whose.rows)
    return Labels(
        target=target,
        kind=kind,
        level=level,
        subjects=people,
        dates=None if whose.dates is None else tuple(whose.dates.astype(str).tolist()),
        spans=whose.spans,
        values=values,
        classes=classes,
        covariates=covariate_values,
        covariate_names=covariate_names,
        left_out=left_out,
    )


def read_intervals(path: Path | str, store: DayStore) -> tuple[tuple[str, ...], np.ndarray]:
    """(person, (n, 2) int64 minutes since 1970-01-01) of the intervals of a file with the columns subject,
    start and end that lie on days of the store.

    Raises InputError as `read_labels` does.
    """
    file = open_table(Path(path))
    if find_level(file) != "interval":
        raise InputError(
            f"{file.path} has no columns 'start' and 'end'; its columns are {', '.join(file.columns)}"
        )
    columns = Columns(file, KEYS["interval"])
    subjects = subject_names(columns)
    _check_known(subjects, store, file.path)
    spans = read_spans(columns, np.arange(columns.num_rows), {})
    whose = in_store(spans, subjects, store, {})
    assert whose.spans is not None
    if not len(whose.rows):
        raise InputError(f"{file.path}: none of its intervals is on a day of the store {store.path}")
    return tuple(subjects[whose.rows].tolist()), whose.spans


def _check_named(target: str, covariates: Sequence[str], keys: Sequence[str]) -> None:
    for name, flag in [(target, "--target"), *((name, "--covariates") for name in covariates)]:
        if name in keys:
            raise InputError(f"{flag} {name!r} says what a row speaks of; name another column")
    if target in covariates:
        raise InputError(f"--covariates names the target {target!r}; a label cannot predict itself")
    if twice := [name for name in covariates if list(covariates).count(name) > 1]:
        raise InputError(f"--covariates names {twice[0]!r} twice; name it once")


def _check_known(people: np.ndarray, store: DayStore, path: Path) -> None:
    """Raise InputError naming labelled people who are not in the store."""
    given, known = sorted(set(people.tolist())), set(store.subjects)
    unknown = [person for person in given if person not in known]
    if unknown:
        named = ", ".join(map(repr, unknown[:_NAMED_IN_ERRORS]))
        more = ", ..." if len(unknown) > _NAMED_IN_ERRORS else ""
        raise InputError(
            f"{path} has labels of {len(unknown)} people (of {len(given)}) who are not in the store "
            f"{store.path}: {named}{more}. The store's people are named like {store.subjects[0]!r}: write "
            "them alike, or leave their rows out"
        )


def _check_once(whose: Whose, subjects: np.ndarray, columns: Columns) -> None:
    """Raise InputError naming the row that speaks of what an earlier row speaks of."""
    parts: list[list] = [subjects[whose.rows].tolist()]
    if whose.dates is not None:
        parts.append(whose.dates.astype(str).tolist())
    if whose.spans is not None:
        parts.append(whose.spans.tolist())
    first: dict[str, int] = {}
    for row, *key in zip(whose.rows.tolist(), *parts, strict=True):
        earlier = first.setdefault(repr(key), row)
        if earlier != row:
            what = {1: "person", 2: "day"}[len(key)] if whose.spans is None else "interval"
            raise InputError(
                f"{columns.place(row)}: the {what} of {key[0]!r} has a label before, in "
                f"{columns.place(earlier).rsplit(', ', 1)[1]}; keep one of them"
            )


def _none_left(path: Path, target: str, left_out: dict[str, int]) -> InputError:
    why = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    return InputError(f"{path} has no row to use with a label in {target!r}: {why}")
