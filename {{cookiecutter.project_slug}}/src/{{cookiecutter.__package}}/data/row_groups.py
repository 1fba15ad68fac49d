"""Parts of a Parquet file that are read one after the other, or by several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow.parquet


def together(metadata: pyarrow.parquet.FileMetaData, rows: int, chosen: Sequence[int] = ()) -> Iterator[list[int]]:
    """The row groups of a Parquet file, or those chosen, put together until they have that many rows."""
    groups, held = [], 0
    for group in chosen or range(metadata.num_row_groups):
        groups.append(group)
        held += metadata.row_group(group).num_rows
        if held >= rows:
            yield groups
            groups, held = [], 0
    if groups:
        yield groups
