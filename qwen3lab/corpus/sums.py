"""Sums of tables that are larger than memory, by key."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.dataset

MAX_ROWS = 2**20
"""Rows of a table that are summed at once."""


def summed(
    data: "pyarrow.dataset.Dataset",
    keys: Sequence[str],
    values: Sequence[str],
    *,
    where: "pyarrow.dataset.Expression | None" = None,
) -> "pyarrow.Table":
    """Sums of integers by key; memory depends on the number of different keys.

    Args:
        data: with these columns.
        keys: columns that identify a row of the result.
        values: columns that are added up.
        where: rows to use.
    """
    import pyarrow

    pieces, n_rows = list[pyarrow.Table](), 0
    for batch in data.to_batches(columns=[*keys, *values], filter=where):
        pieces.append(pyarrow.Table.from_batches([batch]))
        n_rows += batch.num_rows
        if n_rows > MAX_ROWS:
            pieces = [_sums(pyarrow.concat_tables(pieces), keys, values)]
            n_rows = pieces[0].num_rows // 2  # So that many keys do not mean a sum every time.
    if not pieces:
        columns = [data.schema.field(name) for name in (*keys, *values)]
        return pyarrow.schema(columns).empty_table()
    return _sums(pyarrow.concat_tables(pieces), keys, values)


def _sums(table: "pyarrow.Table", keys: Sequence[str], values: Sequence[str]) -> "pyarrow.Table":
    found = table.group_by(list(keys)).aggregate([(name, "sum") for name in values])
    found = found.select([*keys, *(f"{name}_sum" for name in values)])
    return found.rename_columns([*keys, *values]).cast(table.schema)
