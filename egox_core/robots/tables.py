"""Read and write the parquet files of a robot data set with pyarrow."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import intact
from ..safe_files import require_file

TASKS_FOR_PANDAS = (
    '{"index_columns": ["task"], "columns": [{"name": "task", "field_name": "task", '
    '"pandas_type": "unicode", "numpy_type": "object", "metadata": null}]}'
)
"""Metadata by which pandas takes a task as its row's name."""


def frame_table(columns: Mapping[str, np.ndarray]) -> Any:
    """Make a pyarrow table of an episode's columns [T] or [T, N]."""
    import pyarrow as pa

    return pa.table(
        {
            name: values
            if values.ndim == 1
            else pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1])
            for name, values in columns.items()
        }
    )


def row_table(row: dict[str, Any]) -> Any:
    """Make a pyarrow table with one row."""
    import pyarrow as pa

    return pa.Table.from_pylist([row])


def append_to_parquet(
    # The file may be missing if none of it is kept.
    source: Path,
    # Number of its row groups that are kept.
    keep: int,
    table: Any,
    target: Path,
    # Both files become one row group; ``keep`` is then a number of rows.
    one_group: bool = False,
) -> None:
    """Copy the first row groups of a parquet file to another file, and append a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    part_tables = [table]
    if keep:
        with pq.ParquetFile(source) as parquet_file:
            if one_group:
                # Another program may have left out columns, and tells of those that it knows.
                kept_rows = parquet_file.read().slice(0, keep).replace_schema_metadata(None)
                joined_table = pa.concat_tables([kept_rows, table], promote_options="permissive")
                part_tables = [joined_table.combine_chunks()]
            else:
                part_tables = [*map(parquet_file.read_row_group, range(keep)), table]
    with pq.ParquetWriter(target, part_tables[0].schema) as writer:
        for part in part_tables:
            writer.write_table(part)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a parquet file as dictionaries.

    Raises:
        EgoXInputError: no file, a damaged one.
    """
    with _opened(path) as file:
        return file.read().to_pylist()


def read_column(
    files: Iterable[Path],
    name: str,
    count: int,
) -> np.ndarray:  # [T, N]
    """Read a column of the frames whose ``index`` is below ``count``, in any order.

    Raises:
        EgoXInputError: no file, a damaged one.
    """
    parts = []
    for path in files:
        with _opened(path) as file:
            table = file.read(columns=[name, "index"])
            values = table[name].combine_chunks()
            if hasattr(values, "flatten"):
                values = values.flatten()
            rows = values.to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)
            parts.append(rows[table["index"].to_numpy() < count])
    return np.concatenate(parts)


def row_groups(path: Path) -> int:
    """Count the row groups of a parquet file.

    Raises:
        EgoXInputError: no file, a damaged one.
    """
    with _opened(path) as file:
        return file.num_row_groups


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(path, "file of the robot data set")
    errors = (pa.ArrowException, OSError)
    with (
        intact(f"{path.name!r} of the robot data set", errors, expected="parquet"),
        pq.ParquetFile(path) as file,
    ):
        yield file


def write_tasks(path: Path, tasks: Iterable[str]) -> None:
    """Write tasks.parquet, in which the i-th task has task_index i."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [*tasks]
    columns = {"task_index": np.arange(len(names)), "task": names}
    pq.write_table(pa.table(columns, metadata={"pandas": TASKS_FOR_PANDAS}), path)
