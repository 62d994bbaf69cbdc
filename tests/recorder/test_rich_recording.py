"""The recording made of formulas: whole, the same each time, and with all that readers have to cope with."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from gazed_recorder.reader import Recording
from gazed_recorder.testing_rich import make_rich_recording
from gazed_recorder.verify import verify


def _sums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_it_is_whole_and_the_same_each_time(tmp_path):
    one, two = (make_rich_recording(tmp_path / name) for name in ("one", "two"))
    assert verify(one).ok
    assert _sums(one) == _sums(two)
    other = Recording(make_rich_recording(tmp_path / "one", number=3))
    assert other.info.recording_uuid != Recording(one).info.recording_uuid
    assert other.pupil["norm_pos_x"][0] != Recording(one).pupil["norm_pos_x"][0]


def test_what_it_holds(tmp_path):
    recording = Recording(make_rich_recording(tmp_path))
    assert {name: len(recording.timestamps(name)) for name in recording.streams} == {
        "world": 60, "eye0": 240, "eye1": 240,
    }  # fmt: skip
    pupil, gaze = recording.pupil, recording.gaze
    assert len(pupil) == 960
    assert set(gaze["topic"]) == {"gaze.3d.0.", "gaze.3d.1.", "gaze.3d.01."}
    in_3d = pupil["method"] != "2d c++"
    bare = in_3d & np.isnan(pupil["diameter_3d"])
    assert 0 < bare.sum() < in_3d.sum() / 4
    np.testing.assert_array_equal(pupil["confidence"][bare], 0.0)
    assert list(recording.blinks["type"]) == ["onset", "offset"]
    assert len(recording.fixations) > 4
    assert len(recording.annotations) == 4
    stamps = recording.timestamps("pupil")
    assert (np.diff(stamps) < 0).any()
    # The host's clock is 20 millionths fast.
    assert recording.to_unix(102.0) - recording.to_unix(100.0) == pytest.approx(2 - 40e-6, abs=1e-6)


def test_fewer_eyes_no_3d_no_videos(tmp_path):
    recording = Recording(make_rich_recording(tmp_path, eyes=(1,), methods=("2d",), videos=False))
    assert recording.streams == ()
    assert set(recording.pupil["topic"]) == {"pupil.1.2d"}
    assert set(recording.gaze["topic"]) == {"gaze.2d.1."}
    assert set(recording.pupil["eye_id"]) == {1}
