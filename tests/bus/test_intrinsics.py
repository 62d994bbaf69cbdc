"""Camera models and the files in which they lie beside videos."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gazed_bus.errors import CameraModelError
from gazed_bus.intrinsics import dummy_intrinsics, pack_intrinsics, read_intrinsics

MODEL = {
    "camera_matrix": [[200.0, 0.0, 32.0], [0.0, 210.0, 24.0], [0.0, 0.0, 1.0]],
    "dist_coefs": [[0.1, -0.2, 0.0, 0.0, 0.0]],
    "cam_type": "radial",
    "resolution": [64, 48],
}


def written(path: Path, content: object) -> Path:
    path.write_bytes(msgpack.packb(content))
    return path


def test_what_is_packed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "world.intrinsics"
    path.write_bytes(pack_intrinsics(MODEL, 64, 48))
    assert msgpack.unpackb(path.read_bytes()) == {"version": 1, "(64, 48)": MODEL}
    assert read_intrinsics(path) == {(64, 48): MODEL}
    path.write_bytes(pack_intrinsics(dummy_intrinsics(4, 2), 4, 2))
    assert read_intrinsics(path) == {(4, 2): dummy_intrinsics(4, 2)}


def test_a_file_holds_many_sizes(tmp_path: Path) -> None:
    fisheye = {**MODEL, "cam_type": "fisheye", "dist_coefs": [[0.1], [0.2], [0.3], [0.4]], "more": 1}
    del fisheye["resolution"]
    content = {"version": 1, "(64, 48)": MODEL, "(128, 96)": fisheye, "note": 3, 7: 7}
    found = read_intrinsics(written(tmp_path / "world.intrinsics", content))
    assert list(found) == [(64, 48), (128, 96)]
    assert found[128, 96]["resolution"] == [128, 96]
    assert "more" not in found[128, 96]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera_matrix": [[1]]}, "64x48 needs a 3x3 camera_matrix"),
        ({"camera_matrix": [[0, 0, 0], [0, -1, 0], [0, 0, 1]]}, "64x48 needs a 3x3 camera_matrix"),
        ({"camera_matrix": [[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]]}, "64x48 needs"),
        ({"dist_coefs": [["x"]]}, "dist_coefs"),
        ({"dist_coefs": None}, "dist_coefs"),
        ({"cam_type": "round"}, "radial, fisheye, dummy"),
        ({"resolution": [64, 49]}, "another resolution"),
    ],
)
def test_a_damaged_entry_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = written(tmp_path / "x.intrinsics", {"version": 1, "(64, 48)": {**MODEL, **change}})
    with pytest.raises(CameraModelError, match=rf"x\.intrinsics.*{message}") as refusal:
        read_intrinsics(path)
    assert refusal.value.hint


@pytest.mark.parametrize("content", [b"", b"\xc1", msgpack.packb([1]), b"\0" * ((1 << 20) + 1)])
def test_what_is_no_intrinsics_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.intrinsics"
    path.write_bytes(content)
    for each in (path, tmp_path / "absent", tmp_path):
        with pytest.raises(CameraModelError, match=f"{each} is no intrinsics file"):
            read_intrinsics(each)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=64)
    | st.recursive(
        st.none() | st.floats() | st.text(max_size=5) | st.just("(64, 48)"),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["(64, 48)", "camera_matrix", "dist_coefs", "cam_type"]), inner)
        ),
    ).map(msgpack.packb)
)
def test_garbage_never_crashes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "world.intrinsics"
    path.write_bytes(content)
    with suppress(CameraModelError):
        assert set(read_intrinsics(path)) <= {(64, 48)}
