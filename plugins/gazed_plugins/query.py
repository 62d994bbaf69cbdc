"""SQL over a dataset of recordings that ``gazed export --to parquet`` has made; needs ``gazed[batch]``.

>>> from gazed_plugins.query import query
>>> query("dataset", "SELECT recording, avg(confidence) FROM pupil GROUP BY recording")    # doctest: +SKIP
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gazed_plugins.errors import PluginError
from gazed_plugins.export.errors import MissingExtra
from gazed_plugins.extras import install_command, missing_package

if TYPE_CHECKING:
    import pyarrow

__all__ = ["VIEWS", "NoDataset", "QueryError", "query", "running"]

VIEWS = {
    "pupil": "pupil",
    "gaze": "gaze",
    "fixations": "fixations",
    "blinks": "blinks",
    "annotations": "annotations",
    "notifications": "notifications",
    "frames": "frames",
    "recordings": "recording",
}
"""What a query can read, and the files of each recording that it is in."""
_LEAST_MEMORY = 512 << 20
_PREFIX = "recording="


class NoDataset(PluginError):
    """There is no dataset in a folder."""

    code = "no-dataset"
    exit_code = 2


class QueryError(PluginError):
    """A query cannot be answered."""

    code = "query"
    exit_code = 2


def query(data: str | Path, sql: str) -> pyarrow.Table:
    """Return the answer to a query.

    Args:
        data: the folder that recordings were exported to.
        sql: one SELECT in the SQL of duckdb over the views ``VIEWS``; each has the column ``recording``.

    Raises:
        MissingExtra: ``gazed[batch]`` is not installed.
        NoDataset: the folder holds no recordings exported to Parquet.
        QueryError: the query is none, or asks for what is not there; a file of the dataset cannot be read.
    """
    with running(data, sql) as answer:
        table: pyarrow.Table = answer.to_arrow_table()
        return table


@contextmanager
def running(data: str | Path, sql: str) -> Iterator[Any]:
    """Yield the answer to a query, a relation of duckdb; its ``to_arrow_reader`` takes bounded memory.

    The query can read the dataset and nothing else: no other file, no network, no variable of this program. It takes a
    quarter of the memory of this machine at most; what needs more goes to a temporary folder.

    Raises (errors of fetching in the block too):
        MissingExtra, NoDataset, QueryError: as ``query``.
    """
    if missing := missing_package("batch"):
        raise MissingExtra(f"queries need gazed[batch], but {missing} is not installed", hint=install_command("batch"))
    import duckdb

    folder = Path(data).expanduser().absolute()
    recordings = _recordings(folder)
    with tempfile.TemporaryDirectory(prefix="gazed-query-") as scratch:
        # The path of the dataset may have characters that duckdb takes for a pattern.
        link = Path(scratch, "data")
        link.symlink_to(folder, target_is_directory=True)
        with duckdb.connect(":memory:") as connection:
            try:
                _confine(connection, _files(link, recordings, sql), Path(scratch, "spill"))
                _refuse_other(connection, sql)
                yield connection.sql(sql)
            except duckdb.Error as error:
                raise _explained(error, str(link), folder, connection) from error


def _recordings(folder: Path) -> list[str]:
    """Return the names of the folders of the recordings."""
    try:
        found = sorted(each.name for each in folder.iterdir() if each.name.startswith(_PREFIX))
    except OSError as error:
        raise NoDataset(f"{folder}: {error.strerror}", hint="--data names the folder of the dataset") from error
    if not found:
        raise NoDataset(
            f"{folder} holds no recordings exported to Parquet",
            hint=f"gazed export DIR --to parquet --output {folder}; then --data {folder}",
        )
    return found


def _files(link: Path, recordings: list[str], sql: str) -> dict[str, list[str]]:
    """Return the files of each view that the query names; of all, if it names none."""
    words = set(re.findall(r"\w+", sql.lower()))
    files = {}
    for view in VIEWS.keys() & words or VIEWS.keys():
        paths = (link / recording / f"{VIEWS[view]}.parquet" for recording in recordings)
        # A link may lead anywhere.
        files[view] = [str(path) for path in paths if path.is_file() and not path.is_symlink()]
    return {view: paths for view, paths in files.items() if paths}


def _confine(connection: Any, files: dict[str, list[str]], spill: Path) -> None:
    """Make the views, after closing everything else."""
    memory = max(_LEAST_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    allowed = sorted({path for paths in files.values() for path in paths})
    for setting in (
        "python_enable_replacements = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "allow_persistent_secrets = false",
        f"memory_limit = '{memory >> 20}MiB'",
        f"temp_directory = {_literal(str(spill))}",
        f"allowed_paths = {_list(allowed)}",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    for view, paths in files.items():
        source = f"read_parquet({_list(paths)}, hive_partitioning = true, hive_types = {{'recording': VARCHAR}})"
        # The names of the views are ours.
        connection.execute(f"CREATE VIEW {view} AS SELECT recording, * EXCLUDE (recording) FROM {source}")  # noqa: S608


def _refuse_other(connection: Any, sql: str) -> None:
    """Go on only if a query is one that reads."""
    import duckdb

    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(each.type.name for each in statements) or "nothing"
        raise QueryError(
            f"a query is one SELECT, found {kinds}", hint="the dataset is only read; --output writes the answer"
        )


def _explained(error: Exception, link: str, folder: Path, connection: Any) -> QueryError:
    import duckdb

    # What duckdb proposes for want of memory are settings, which are locked.
    text = str(error).replace(link, str(folder)).partition("\n\nPossible solutions")[0].strip()
    hint = ""
    if isinstance(error, duckdb.PermissionException):
        hint = "a query can read the dataset and nothing else"
    elif isinstance(error, duckdb.OutOfMemoryException):
        hint = "a query takes a quarter of the memory at most: count, or ask for fewer rows"
    elif isinstance(error, duckdb.CatalogException | duckdb.BinderException):
        hint = f"there are {', '.join(VIEWS)}{_columns(connection)}"
    return QueryError(text, hint=hint)


def _columns(connection: Any) -> str:
    """Return what columns the views have that the query names."""
    rows = connection.execute(
        "SELECT table_name, list(column_name ORDER BY ordinal_position) FROM information_schema.columns"
        " GROUP BY table_name ORDER BY table_name"
    ).fetchall()
    return "".join(f"; {view} has {', '.join(columns)}" for view, columns in rows if len(rows) < len(VIEWS))


def _list(texts: list[str]) -> str:
    return f"[{', '.join(map(_literal, texts))}]"


def _literal(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
