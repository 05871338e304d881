"""Before a way is timed it must be right: how results are compared, and how a way that fails is reported."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def assert_same(actual: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """Raise AssertionError unless shapes are equal and the error's norm is within tolerance * norm."""
    assert actual.shape == wanted.shape, f"{what} has shape {tuple(actual.shape)}, not {tuple(wanted.shape)}"
    norm, off = (torch.linalg.vector_norm(x, dtype=torch.float32).item() for x in (wanted, actual - wanted))
    assert off <= tolerance * norm, f"{what} is off by {off / norm:.3g} of its norm"


def describe_error(error: BaseException, longest: int = 300) -> str:
    """Its type and message in one line; of a long one the beginning and the end."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= longest else f"{text[: longest // 2]} [...] {text[-longest // 2 :]}"


def try_each(attempts: Mapping[str, Callable[[], Result]]) -> tuple[dict[str, Result], dict[str, str]]:
    """What each gives, by name, and of those that fail the error."""
    results: dict[str, Result] = {}
    errors: dict[str, str] = {}
    for name, attempt in attempts.items():
        try:
            results[name] = attempt()
        except Exception as error:
            errors[name] = describe_error(error)
    return results, errors
