"""``gazed query``: SQL over recordings that were exported to Parquet."""

from __future__ import annotations

import csv
import decimal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import click

from gazed.cli.output import emit_json, json_option

__all__ = ["query"]

_EPILOG = """\b
Views: pupil, gaze, fixations, blinks, annotations, notifications, frames (of videos), recordings.
Each has the column recording, by which they can be joined.
\b
Examples:
  gazed query "SELECT recording, count(*) AS blinks FROM blinks WHERE type = 'onset' GROUP BY recording"
  gazed query "DESCRIBE pupil" --data dataset
  gazed query "SELECT pupil_ns, diameter_3d FROM pupil WHERE confidence > 0.8" --output confident.parquet
"""
_SHOWN = 100
_FETCHED = 10_000


@click.command(epilog=_EPILOG)
@click.argument("sql")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=".",
    help="The folder that recordings were exported to; else here.",
)
@click.option("--format", "shape", type=click.Choice(["table", "csv"]), default="table", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the answer to this file: .csv or .parquet.")
@json_option
def query(sql: str, data: Path, shape: str, output: Path | None, as_json: bool) -> None:
    """Ask recordings in SQL.

    The dataset is what gazed export --to parquet has made. It is only read; a query reaches nothing else.
    """
    from gazed_plugins.query import running

    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise click.UsageError(f"--output is a .csv or a .parquet file, got {output}")
    with running(data, sql) as answer:
        if output is not None:
            rows = _write(answer, output)
            if as_json:
                emit_json({"path": str(output), "rows": rows})
            else:
                click.echo(f"{rows} rows in {output}")
        elif as_json:
            emit_json({"columns": answer.columns, "rows": list(_rows(answer))})
        elif shape == "csv":
            _write_csv(answer, sys.stdout)
        else:
            _show(answer)


def _rows(answer: Any) -> Iterator[list[Any]]:
    for batch in answer.to_arrow_reader(_FETCHED):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield list(map(_plain, row))


def _plain(value: Any) -> Any:
    """Return a sum of whole numbers, which duckdb may make wider than 64 bits, as a number that JSON has."""
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _write_csv(answer: Any, file: TextIO) -> int:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(answer.columns)
    rows = 0
    for row in _rows(answer):
        writer.writerow(row)
        rows += 1
    return rows


def _write(answer: Any, output: Path) -> int:
    """Write the answer to a file that appears when it is whole; return how many rows."""
    import io

    from gazed_recorder.atomic import replacing

    with replacing(output, durable=False) as file:
        if output.suffix == ".csv":
            text = io.TextIOWrapper(file, encoding="utf-8", newline="")
            rows = _write_csv(answer, text)
            text.detach()
            return rows
        from pyarrow import parquet

        reader, rows = answer.to_arrow_reader(_FETCHED), 0
        with parquet.ParquetWriter(file, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)
                rows += batch.num_rows
        return rows


def _show(answer: Any) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*map(escape, answer.columns))
    rows = answer.limit(_SHOWN + 1).fetchall()
    for row in rows[:_SHOWN]:
        table.add_row(*("" if value is None else escape(str(value)) for value in row))
    Console().print(table)
    if len(rows) > _SHOWN:
        click.echo(f"and more; --format csv or --output shows all, LIMIT in the query fewer than {_SHOWN}")
