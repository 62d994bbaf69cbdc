"""The demonstration and the measurement: real daemons, real recordings, the fixed keys."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from gazed import Recording
from gazed.testing import wait_for
from gazed_recorder.manifest import Manifest
from gazed_recorder.verify import verify


def start(*arguments, **options):
    command = [sys.executable, "-m", "gazed", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def one_object(process):
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


def loud(samples):
    return np.flatnonzero(np.abs(samples[:, 0].astype(int)) > 10_000)


def test_demo_records_verifies_and_knows_the_truth(tmp_path):
    result = one_object(start("demo", "--seconds", "1", "--recordings", tmp_path, "--json"))
    assert result["verified"] is True
    assert set(result["streams"]) == {"world", "eye0", "eye1", "audio"}
    folder = Path(result["recording"])
    assert folder.is_relative_to(tmp_path)
    recording = Recording(folder)
    for stream in result["streams"].values():
        assert stream["received"] == stream["written"] > 0
        assert stream["dropped"] == 0
    for name in ("world", "eye0", "eye1"):
        truth = np.load(folder / "truth" / f"{name}_truth.npy")
        assert np.array_equal(truth["timestamp"], recording.timestamps(name))
    if importlib.util.find_spec("pye3d"):
        assert result["accuracy"]["gazer"] == "Gazer3D"
        assert result["accuracy"]["pupil_error_px_median"] < 0.5
        assert 0 < result["accuracy"]["gaze_error_deg_median"] <= result["accuracy"]["gaze_error_deg_p95"]
        assert {"pupil", "gaze", "notify"} <= set(recording.logs)
    assert [annotation["label"] for annotation in recording.annotations] == ["half time"]
    clicks = np.concatenate([block.timestamp + loud(block.samples) / 48_000 for block in recording.sound()])
    assert len(clicks)
    assert np.abs(clicks - np.round(clicks)).max() < 1.1e-3


def test_demo_that_is_terminated_leaves_no_process_behind(tmp_path):
    with start("demo", "--seconds", "60", "--recordings", str(tmp_path)) as demo:
        for line in demo.stderr:
            if line.startswith(("calibrating", "recording")):
                break
        children = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=30)
    assert demo.returncode == 128 + signal.SIGTERM
    assert len(children) >= 5
    assert [child for child in children if child.is_running()] == []


def test_demo_that_is_killed_leaves_a_whole_recording_and_no_process(tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    folder = tmp_path / "recordings" / "demo" / "000"
    with start("demo", "--seconds", "60", "--recordings", str(tmp_path / "recordings"), env=environment) as demo:
        wait_for(lambda: (folder / "manifest.json").exists() and Manifest.load(folder).streams["world"].written, 60)
        children = psutil.Process(demo.pid).children(recursive=True)
        demo.kill()
    assert len(children) >= 5
    assert psutil.wait_procs(children, timeout=20)[1] == []
    assert verify(folder).ok
    assert list(temporary.iterdir()) == []


def test_bench_has_a_figure_for_every_stream_and_process():
    homeless = {**os.environ, "HOME": "/none"}
    result = one_object(start("bench", "--seconds", "1", "--rate", "200", "--json", env=homeless))
    assert result["seconds"] == 1
    assert set(result["latency_ms"]) == {"frame.world", "frame.eye.0", "frame.eye.1"}
    for latency in result["latency_ms"].values():
        assert 0 < latency["p50"] <= latency["p99"]
    for stream in result["streams"].values():
        assert {"received", "written", "dropped", "fps"} <= set(stream)
    assert set(result["cpu_percent"]) == set(result["pss_mb"])
    assert {"supervisor", "broker", "recorder", "world", "eye0", "eye1"} <= set(result["pss_mb"])
    assert all(size > 1 for size in result["pss_mb"].values())


@pytest.mark.slow
def test_bench_with_detection_measures_pupils_and_gaze():
    pytest.importorskip("pye3d.detector_3d")
    result = one_object(start("bench", "--detect", "--seconds", "1", "--json"))
    assert set(result["latency_ms"]) == {"gaze", "pupil.0.2d", "pupil.0.3d", "pupil.1.2d", "pupil.1.3d"}
    for latency in result["latency_ms"].values():
        assert 0 < latency["p50"] <= latency["p99"]
    assert {"pupil0", "pupil1", "gaze", "marker"} <= set(result["pss_mb"])
    for eye in ("eye0", "eye1"):
        counts = result["detection"][eye]
        assert 0 < counts["detected"] <= counts["frames"] == result["streams"][eye]["written"]
