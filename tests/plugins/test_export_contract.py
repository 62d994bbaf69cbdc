"""The contract of exporters passes a good one, and names what is wrong with others."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from gazed_plugins.arguments import refuse_unknown
from gazed_plugins.export.testing import check_exporter
from gazed_recorder.testing_rich import make_rich_recording


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_rich_recording(tmp_path_factory.mktemp("recordings"), seconds=0.5)


class Times:
    """The times of all pupils, one a line."""

    extra = ""
    dataset = ""

    def __init__(self, args):
        refuse_unknown("times", "argument", args, ["digits"])
        self._digits = args.get("digits", 9)

    def name(self, _recording, label):
        return f"{label}/times.txt"

    def write(self, recording, target, progress):
        stamps = recording.pupil["timestamp"]
        progress(0, len(stamps))
        target.write_text(self._text(recording, stamps))
        progress(len(stamps), len(stamps))

    def _text(self, _recording, stamps):
        return "\n".join(f"{stamp:.{self._digits}f}" for stamp in stamps)

    def complete(self, output):
        (output / "all.json").write_text(json.dumps(sorted(path.parent.name for path in output.glob("*/times.txt"))))


def test_a_good_exporter_passes_and_what_it_wrote_comes_back(folder, tmp_path):
    target = check_exporter(Times, {"digits": 3}, folder, tmp_path)
    assert target.name == "times.txt"
    assert target.read_text().startswith("100.100\n")
    assert (target.parent.parent / "all.json").read_text() == '["session_A-000"]'


class NoDocstring(Times):
    __doc__ = ""


class TakesAll(Times):
    """x"""

    def __init__(self, _args):
        self._digits = 9


class OneName(Times):
    """x"""

    def name(self, _recording, _label):
        return "times.txt"


class Escapes(Times):
    """x"""

    def name(self, _recording, label):
        return f"../{label}.txt"


class NoProgress(Times):
    """x"""

    def write(self, recording, target, _progress):
        super().write(recording, target, lambda _done, _total: None)


class GoesBack(Times):
    """x"""

    def write(self, recording, target, progress):
        super().write(recording, target, lambda done, total: progress(total - done, total))


class Sidecar(Times):
    """x"""

    def write(self, recording, target, progress):
        super().write(recording, target, progress)
        target.with_suffix(".json").write_text("{}")


class Ours(Times):
    """x"""

    def write(self, recording, target, progress):
        super().write(recording, target, progress)
        (recording.path / "exported").touch()


class MakesFolders(Times):
    """x"""

    def write(self, recording, target, progress):
        target.parent.mkdir(parents=True, exist_ok=True)
        super().write(recording, target, progress)


class Silent(Times):
    """x"""

    def write(self, recording, target, progress):
        try:
            super().write(recording, target, progress)
        except OSError:
            progress(1, 1)


class WrongError(Times):
    """x"""

    def write(self, recording, target, progress):
        try:
            super().write(recording, target, progress)
        except OSError as error:
            raise RuntimeError("no") from error


class Now(Times):
    """x"""

    def _text(self, recording, stamps):
        return super()._text(recording, stamps) + str(time.time_ns())


class Absolute(Times):
    """x"""

    def _text(self, recording, stamps):
        return super()._text(recording, stamps) + str(recording.path)


class Hashed(Times):
    """x"""

    def _text(self, recording, stamps):
        return super()._text(recording, stamps) + " ".join({"a", "b", "c", "d", "e", "f", "g", "h"})


class Local(Times):
    """x"""

    def _text(self, recording, stamps):
        return super()._text(recording, stamps) + time.strftime("%H:%M", time.localtime(stamps[0]))


class WorkingFolder(Times):
    """x"""

    def write(self, recording, target, progress):
        super().write(recording, target, progress)
        if Path.cwd().name == "elsewhere":
            Path("scratch").touch()


class CompletesAnew(Times):
    """x"""

    def complete(self, output):
        (output / "when.txt").write_text(str(time.time_ns()))


class Link(Times):
    """x"""

    def write(self, recording, target, progress):
        progress(1, 1)
        target.symlink_to(recording.path / "pupil.pldata")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (NoDocstring, "docstring"),
        (TakesAll, "unknown argument"),
        (OneName, "different labels"),
        (Escapes, "stays in the output folder"),
        (NoProgress, "tells its progress"),
        (GoesBack, "never goes back"),
        (Sidecar, "nothing beside it"),
        (Link, "is a file or a folder"),
        (Ours, "recording is unchanged"),
        (MakesFolders, "folder that is not there"),
        (Silent, "raises OSError"),
        (WrongError, r"RuntimeError\('no'\)"),
        (Now, "same bytes"),
        (Absolute, "same bytes"),
        (Hashed, "same bytes"),
        (Local, "same bytes"),
        (WorkingFolder, "working folder"),
        (CompletesAnew, r"complete\(\) twice"),
    ],
)
def test_what_is_wrong_is_named(kind, text, folder, tmp_path):
    with pytest.raises(AssertionError, match=text):
        check_exporter(kind, {}, folder, tmp_path)
    (folder / "exported").unlink(missing_ok=True)
