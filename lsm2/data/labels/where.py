"""Conditions on the rows of a label file, such as `age_years >= 20 and sex == "female"`."""

# pyarrow.compute makes its functions at import, where pyright does not see them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from lsm2.data.labels.columns import Columns
from lsm2.data.tables.file import TableFile
from lsm2.errors import InputError

pc: Any = pyarrow.compute
"""Its functions are made when it is imported; type checkers know none of them."""
_BACKTICKED = re.compile(r"`([^`]+)`")
_COMPARISONS = {
    ast.Eq: pc.equal,
    ast.NotEq: pc.not_equal,
    ast.Lt: pc.less,
    ast.LtE: pc.less_equal,
    ast.Gt: pc.greater,
    ast.GtE: pc.greater_equal,
}
_GRAMMAR = (
    "compare columns with numbers or quoted text (==, !=, <, <=, >, >=, in [...]) and join the comparisons "
    "with and, or, not"
)


class Condition:
    """A condition as people write it for `DataFrame.query`; nothing of it is ever run as Python.

    expression: comparisons of columns with numbers and quoted text, `in` lists, a column of true and false
        alone, joined by `and`, `or`, `not` and parentheses; a name with spaces stands in backticks.

    A comparison with a missing cell is neither true nor false, and a row counts only if the whole is true.
    Raises InputError for an expression of another form, and for one that names a column the file has not.
    """

    def __init__(self, expression: str, file: TableFile) -> None:
        self._expression, self._columns_of_file = expression, file.columns
        self._spaced: dict[str, str] = {}
        try:
            self._tree = ast.parse(_BACKTICKED.sub(self._placeholder, expression).strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._refused("cannot be read") from None
        self.columns: list[str] = []
        """The columns that it needs."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Name):
                name = self._spaced.get(node.id, node.id)
                if name not in file.columns:
                    raise InputError(
                        f"--where {expression!r}: {file.path} has no column {name!r}; its columns are "
                        f'{", ".join(file.columns)} (text stands in quotes: "{name}")'
                    )
                self.columns.append(name)
        if not self.columns:
            raise self._refused("names no column")

    def holds(self, columns: Columns) -> np.ndarray:
        """(rows,) bool: where the condition is true."""
        cells = {name: columns.typed(name) for name in self.columns}
        try:
            true = self._truth(self._tree, cells)
        except RecursionError:
            raise self._refused("is nested too deeply") from None
        return true.fill_null(False).to_numpy(zero_copy_only=False)

    def _placeholder(self, match: re.Match[str]) -> str:
        name = f"column_in_backticks_{len(self._spaced)}"
        self._spaced[name] = match[1]
        return f" {name} "

    def _truth(self, node: ast.expr, cells: dict[str, pa.Array]) -> pa.Array:
        """Whether a part is true in each row, null where a missing cell leaves it open."""
        if isinstance(node, ast.BoolOp):
            join = pc.and_kleene if isinstance(node.op, ast.And) else pc.or_kleene
            result, *rest = [self._truth(part, cells) for part in node.values]
            for part in rest:
                result = join(result, part)
            return result
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return pc.invert(self._truth(node.operand, cells))
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            result, *rest = [
                self._comparison(left, operator, right, cells)
                for left, operator, right in zip(sides, node.ops, sides[1:], strict=False)
            ]
            for part in rest:
                result = pc.and_kleene(result, part)
            return result
        if isinstance(node, ast.Name):
            column = self._operand(node, cells)
            if pa.types.is_floating(column.type) and set(column.unique().drop_null().to_pylist()) <= {0, 1}:
                return pc.equal(column, 1.0)
            raise self._refused(f"takes {ast.unparse(node)!r} for true or false, which it is not")
        raise self._refused(f"holds {ast.unparse(node)!r}")

    def _comparison(
        self, left: ast.expr, operator: ast.cmpop, right: ast.expr, cells: dict[str, pa.Array]
    ) -> pa.Array:
        column = self._operand(left, cells)
        if isinstance(operator, (ast.In, ast.NotIn)):
            if not isinstance(right, (ast.List, ast.Tuple, ast.Set)) or not isinstance(column, pa.Array):
                raise self._refused("has an `in` without a column before and a list behind it")
            items = [self._operand(item, cells) for item in right.elts]
            for item in items:
                self._check_alike(column, item, left, right)
            found = pc.is_in(column, value_set=pa.array([item.as_py() for item in items], column.type))
            found = pc.if_else(column.is_null(), pa.scalar(None, pa.bool_()), found)
            return found if isinstance(operator, ast.In) else pc.invert(found)
        if type(operator) not in _COMPARISONS:
            raise self._refused(f"holds {ast.unparse(ast.Compare(left, [operator], [right]))!r}")
        other = self._operand(right, cells)
        self._check_alike(column, other, left, right)
        result = _COMPARISONS[type(operator)](column, other)
        if isinstance(result, pa.Scalar):
            raise self._refused(
                f"compares {ast.unparse(left)} with {ast.unparse(right)}, no column with either"
            )
        return result

    def _operand(self, node: ast.expr, cells: dict[str, pa.Array]) -> pa.Array | pa.Scalar:
        if isinstance(node, ast.Name):
            return cells[self._spaced.get(node.id, node.id)]
        try:
            value = ast.literal_eval(node)
        except (ValueError, TypeError, RecursionError):
            value = None
        if isinstance(value, str):
            return pa.scalar(value, pa.large_string())
        if isinstance(value, (bool, int, float)):
            return pa.scalar(float(value))
        raise self._refused(f"holds {ast.unparse(node)!r}")

    def _check_alike(
        self, one: pa.Array, other: pa.Array | pa.Scalar, left: ast.expr, right: ast.expr
    ) -> None:
        if one.type != other.type:
            words = ["numbers" if pa.types.is_floating(side.type) else "text" for side in (one, other)]
            raise self._refused(
                f"compares {ast.unparse(left)} ({words[0]}) with {ast.unparse(right)} ({words[1]})"
            )

    def _refused(self, what: str) -> InputError:
        for placeholder, name in self._spaced.items():
            what = what.replace(placeholder, f"`{name}`")
        return InputError(f"--where {self._expression!r} {what}; {_GRAMMAR}")
