"""Cells and groups: which combinations of the sensitive columns there are, and who is in which group."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core.validation import check_choice
from mlpapers.fairness._checks import sensitive_table

__all__ = ["GROUPS", "GroupEncoding", "make_groups"]

GROUPS = ("intersectional", "marginal", "all")
_ALIASES = {"independent": "marginal"}
_FLOAT = re.compile(r"^(-?(?:0|[1-9][0-9]*))\.0$")


@dataclass(frozen=True, eq=False)
class GroupEncoding:
    """The cells of a sample and the groups made of them.

    Parameters
    ----------
    cells : DataFrame of M rows
        The observed combinations of the sensitive columns, as text, sorted.
    codes : ndarray of shape (n,) of int
        The cell of each sample.
    membership : ndarray of shape (M, J) of bool
        Which cells a group is the union of; groups may overlap.
    names : list of J str
        Such as ``"race=White & sex=F"``.
    grouping : {"intersectional", "marginal", "all"}
        How the cells were collected.
    """

    cells: pd.DataFrame
    codes: NDArray[np.int64]
    membership: NDArray[np.bool_]
    names: list[str]
    grouping: str

    @property
    def n_cells(self) -> int:
        """M."""
        return len(self.cells)

    @property
    def cell_names(self) -> list[str]:
        """The cells in words."""
        return [_name(self.cells.columns, row) for row in self.cells.itertuples(index=False)]

    def transform(self, sensitive_features: Any) -> NDArray[np.int64]:
        """Return the cell of each row; -1 for a combination that was not there when the groups were made.

        Parameters
        ----------
        sensitive_features : as in :func:`make_groups`
            A DataFrame's columns are found by name where it has them all, else by position. Whole numbers are
            the same however they are stored: 1, 1.0 and True.

        Returns
        -------
        codes : ndarray of int, one per row

        Raises
        ------
        ValueError
            For another number of columns, or a missing value.
        """
        table = sensitive_table(sensitive_features)
        known = list(self.cells.columns)
        if len(set(known)) == len(known) and set(known) <= set(table.columns):
            table = table[known]
        if table.shape[1] != len(known):
            raise ValueError(
                f"sensitive_features must have the {len(known)} columns {known}; got {table.shape[1]}"
            )
        codes, combinations = _observed(table)
        columns = [
            _comparable(self.cells.iloc[:, j].tolist(), combinations.iloc[:, j].tolist())
            for j in range(len(known))
        ]
        index = {row: code for code, row in enumerate(zip(*(cells for cells, _ in columns)))}
        found = [index.get(row, -1) for row in zip(*(new for _, new in columns))]
        return np.asarray(found, dtype=np.int64)[codes]

    def with_groups(self, groups: str) -> GroupEncoding:
        """Return the same cells under another grouping: ``"intersectional"``, ``"marginal"`` or ``"all"``."""
        name = _check_groups(groups)
        if name == self.grouping:
            return self
        membership, names = _grouping(self.cells, name)
        return replace(self, membership=membership, names=names, grouping=name)


def make_groups(sensitive_features: Any, groups: str = "intersectional") -> GroupEncoding:
    """Encode sensitive columns as cells and collect the cells into groups.

    Parameters
    ----------
    sensitive_features : DataFrame, Series, mapping of columns, list, or array of shape (n,) or (n, K)
        The protected columns, of any type; values are compared as text.
    groups : {"intersectional", "marginal", "all"}, default="intersectional"
        - "intersectional": every observed combination of all columns is a group.
        - "marginal" (or "independent"): every value of every column is a group.
        - "all": every combination of any of the columns, so single values, pairs, ..., cells; those with the
          same members are kept once.

    Returns
    -------
    encoding : GroupEncoding

    Raises
    ------
    ValueError
        For an unknown grouping or missing values.

    Examples
    --------
    >>> encoding = make_groups({"sex": ["F", "M", "F"], "race": ["W", "W", "B"]}, "marginal")
    >>> encoding.names
    ['sex=F', 'sex=M', 'race=B', 'race=W']
    >>> encoding.codes.tolist()
    [1, 2, 0]
    """
    name = _check_groups(groups)
    codes, cells = _observed(sensitive_table(sensitive_features))
    membership, names = _grouping(cells, name)
    return GroupEncoding(cells, codes, membership, names, name)


def _check_groups(groups: str) -> str:
    check_choice("groups", groups, (*GROUPS, *_ALIASES))
    return _ALIASES.get(groups, groups)


def _observed(table: pd.DataFrame) -> tuple[NDArray[np.int64], pd.DataFrame]:
    """Return the code of each row among the observed combinations, and these combinations, sorted."""
    codes = np.zeros(len(table), dtype=np.int64)
    for j in range(table.shape[1]):
        levels, values = pd.factorize(table.iloc[:, j].to_numpy(), sort=True)
        # Combinations are renumbered column by column, so that the product of the levels cannot overflow.
        codes = np.unique(codes * max(len(values), 1) + levels, return_inverse=True)[1].astype(np.int64)
    first = np.unique(codes, return_index=True)[1]
    return codes, table.iloc[first].reset_index(drop=True)


def _grouping(cells: pd.DataFrame, name: str) -> tuple[NDArray[np.bool_], list[str]]:
    n_columns = cells.shape[1]
    sizes = {"intersectional": [n_columns], "marginal": [1], "all": range(1, n_columns + 1)}[name]
    members: list[NDArray[np.bool_]] = []
    names: list[str] = []
    seen: set[bytes] = set()
    for size in sizes:
        for chosen in itertools.combinations(range(n_columns), size):
            part = cells.iloc[:, list(chosen)]
            codes, combinations = _observed(part)
            for code, row in enumerate(combinations.itertuples(index=False)):
                column = codes == code
                if name == "all" and column.tobytes() in seen:
                    continue
                seen.add(column.tobytes())
                members.append(column)
                names.append(_name(part.columns, row))
    return np.stack(members, axis=1), names


def _comparable(known: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    """Return values as they are compared: whole numbers alike in every notation, unless that merges some."""
    alike = [_whole(value) for value in known]
    if len(set(alike)) < len(set(known)):
        return known, new
    return alike, [_whole(value) for value in new]


def _whole(value: str) -> str:
    """Return the text of an integer for that of a float without fraction, or of a truth value."""
    truth = {"False": "0", "True": "1", "-0.0": "0"}
    return truth.get(value, _FLOAT.sub(r"\1", value))


def _name(columns: Any, row: Any) -> str:
    return " & ".join(f"{column}={value}" for column, value in zip(columns, row))
