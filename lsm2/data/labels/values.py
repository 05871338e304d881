"""From a column of labels to numbers or classes: their kind, and whether they can be predicted."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from lsm2.errors import InputError

Kind = Literal["binary", "multiclass", "ordinal", "regression"]
MOST_CLASSES_OF_INTEGERS = 10


def check_kind(kind: str | None) -> None:
    """Raise InputError unless this is a kind, or None."""
    if kind is not None and kind not in get_args(Kind):
        raise InputError(f"--kind is {kind!r}; choose one of {', '.join(get_args(Kind))}")


def find_kind(cells: pa.Array, told: Kind | None, column: str) -> Kind:
    """The kind of these labels, float64 or text without nulls.

    Two different values are binary, text is multiclass, integers of at most 10 values are multiclass, other
    numbers regression; `told` overrides it. Raises InputError where what was told does not fit the values.
    """
    distinct = cells.unique().to_pylist()
    is_text = not pa.types.is_floating(cells.type)
    if told is None:
        if len(distinct) == 2:
            return "binary"
        whole = not is_text and all(float(value).is_integer() for value in distinct)
        return (
            "multiclass" if is_text or (whole and len(distinct) <= MOST_CLASSES_OF_INTEGERS) else "regression"
        )
    if told == "binary" and len(distinct) > 2:
        raise InputError(
            f"--kind binary: {column!r} has {len(distinct)} different values; choose another kind, or leave "
            "two of them with --where"
        )
    if told in ("ordinal", "regression") and is_text:
        raise InputError(
            f"--kind {told}: {column!r} holds text such as {distinct[0]!r}, which has no order; write numbers"
        )
    if told == "ordinal" and len(distinct) == 2:
        raise InputError(f"--kind ordinal: {column!r} has only two different values; use --kind binary")
    return told


def classes_or_numbers(cells: pa.Array, kind: Kind) -> tuple[np.ndarray, tuple[str, ...]]:
    """(values, classes) of labels without nulls: numbers and (), or indices of classes and their names."""
    if kind == "regression":
        return cells.to_numpy(zero_copy_only=False).astype(np.float64), ()
    distinct = sorted(cells.unique().to_pylist())
    index = {value: float(place) for place, value in enumerate(distinct)}
    names = tuple(value if isinstance(value, str) else f"{value:.10g}" for value in distinct)
    return np.array([index[value] for value in cells.to_pylist()]), names


def check_predictable(
    values: np.ndarray, classes: tuple[str, ...], subjects: tuple[str, ...], kind: Kind, column: str
) -> None:
    """Raise InputError for labels that are all the same, and for a class of fewer than two people."""
    if len(np.unique(values)) == 1:
        value = classes[int(values[0])] if classes else f"{values[0]:g}"
        raise InputError(
            f"all {len(values)} labels of {column!r} are {value}: there is nothing to tell apart; name "
            "another --target, or widen --where"
        )
    for index, name in enumerate(classes):
        people = {subjects[row] for row in np.flatnonzero(values == index)}
        if len(people) < 2:
            remedy = "leave it out with --where, or join it to another"
            if kind == "multiclass" and len(classes) > MOST_CLASSES_OF_INTEGERS:
                remedy += "; of numbers, --kind regression"
            raise InputError(
                f"the class {name!r} of {column!r} has one person; a class needs at least two, one to learn "
                f"from and one to judge by: {remedy}"
            )
