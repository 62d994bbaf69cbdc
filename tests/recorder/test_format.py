"""FORMAT.md against real folders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from gazed_recorder.manifest import ClockReading, FileSum, Gap, Manifest, Part, StreamReport
from gazed_recorder.records import FRAME_DTYPE
from gazed_recorder.repair import repair
from gazed_recorder.testing import make_recording

TEXT = (Path(__file__).parents[2] / "recorder" / "FORMAT.md").read_text()
NAMES = {
    "<camera>": r"(world|eye\d)",
    "<part>": r"(world|eye\d|sound)(_\d{3})?",
    "<log>": r"(?!world|eye\d|audio|sound)[a-z0-9_-]+",
    r"\*": r".*",
}


def table(title: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is ``title``."""
    lines = TEXT.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {title} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def pattern(name: str) -> re.Pattern[str]:
    text = re.escape(name)
    for placeholder, expression in NAMES.items():
        text = text.replace(placeholder, expression)
    return re.compile(text)


def check(folder: Path, column: int) -> None:
    rows = [(pattern(row[0]), row[column]) for row in table("file")]
    for name in (path.name for path in folder.iterdir()):
        found = [presence for expression, presence in rows if expression.fullmatch(name)]
        assert found, f"FORMAT.md does not list {name}"
        assert found[0] != "no", f"{name} is there although FORMAT.md says it is not"
    names = [path.name for path in folder.iterdir()]
    for expression, presence in rows:
        if presence == "yes" and expression.pattern != pattern(".lock").pattern:
            assert any(expression.fullmatch(name) for name in names), f"{expression.pattern} is missing in {names}"


@pytest.mark.parametrize("parts", [1, 2])
def test_every_file_is_listed_and_every_listed_file_is_there(tmp_path: Path, parts: int) -> None:
    streams = ("world", "eye0", "audio")
    check(make_recording(tmp_path, streams=streams, parts=parts), column=2)
    torn = make_recording(tmp_path, streams=streams, parts=parts, closed=False)
    check(torn, column=1)
    repair(torn)
    check(torn, column=2)


@pytest.mark.parametrize(
    ("title", "struct"),
    [
        ("manifest field", Manifest),
        ("clock field", ClockReading),
        ("stream field", StreamReport),
        ("gap field", Gap),
        ("part field", Part),
        ("file field", FileSum),
    ],
)
def test_every_field_of_the_manifest_is_described(title: str, struct: type[Manifest]) -> None:
    assert [row[0] for row in table(title)] == list(struct.__struct_fields__)


def test_the_kinds_and_codecs_of_streams_are_described(tmp_path: Path) -> None:
    streams = Manifest.load(make_recording(tmp_path, streams=("world", "audio"))).streams.values()
    rows = table("stream field") + table("part field")
    words = {row[0]: set(re.findall(r"\w+", row[2])) for row in rows}
    assert {report.kind for report in streams} == {"video", "audio", "data"} <= words["kind"]
    assert {part.codec for report in streams for part in report.parts} == {"mjpeg", "flac"} <= words["codec"]


def test_the_frame_record_is_described() -> None:
    assert [(row[0], row[1]) for row in table("frame field")] == [
        (name, FRAME_DTYPE[name].str) for name in FRAME_DTYPE.names or ()
    ]


def test_the_descriptions_are_described(tmp_path: Path) -> None:
    folder = make_recording(tmp_path)
    info = json.loads((folder / "info.player.json").read_bytes())
    assert {row[0]: row[1] for row in table("info key")} == {key: type(value).__name__ for key, value in info.items()}
    lines = (folder / "info.csv").read_text().splitlines()
    assert [row[0] for row in table("csv key")] == [line.split(",")[0] for line in lines[1:]]


def test_the_text_names_the_version_that_is_written() -> None:
    assert f"It is version {Manifest('', '', ClockReading(0, 0, 0, 0.0)).format} " in TEXT
