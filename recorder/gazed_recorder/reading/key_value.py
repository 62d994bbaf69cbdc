"""``info.csv`` and ``user_info.csv``: keys and values, in the two forms that Pupil Capture gave them."""

from __future__ import annotations

import csv
import io

__all__ = ["read_key_value"]


def read_key_value(content: bytes) -> dict[str, str]:
    r"""Return the keys and values of a file.

    Up to version 0.8.1 they are separated by tabs; later by commas, with a header ``key,value``. Nothing is quoted,
    and ``\`` takes from what follows any other meaning. Whichever of the two comes first in the first line separates.

    Raises:
        ValueError: it is no such file.
    """
    text = content.decode("utf-8-sig", "replace")
    head = text.partition("\n")[0]
    tab, comma = head.find("\t"), head.find(",")
    delimiter = "\t" if tab >= 0 and not 0 <= comma < tab else ","
    lines = io.StringIO(text, newline="")
    try:
        rows = [*csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, escapechar="\\")]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if rows and "key" in head and "value" in head:
        rows = rows[1:]
    return {row[0].strip(): row[1].strip() for row in rows if len(row) > 1}
