"""The engines, and the gate before them, on a simulated wearer whose truth is known."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import cv2
import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pye3d.detector_3d")
engines = pytest.importorskip("pupil_detectors")
from pye3d.detector_3d import CameraModel, Detector3D  # noqa: E402

from gazed_bus.codec import decode, encode  # noqa: E402
from gazed_capture.wearer.bank import open_bank  # noqa: E402
from gazed_capture.wearer.options import read_options  # noqa: E402
from gazed_plugins.errors import PluginArgument, PluginError  # noqa: E402
from gazed_plugins.pupil.detector import PupilDetector  # noqa: E402
from gazed_plugins.pupil.gate import REASONS, BlinkGate  # noqa: E402
from gazed_plugins.pupil.intrinsics import EyeCamera  # noqa: E402
from gazed_plugins.pupil.settings import PupilSettings  # noqa: E402

SIZE, FPS, FOCAL = 192, 100.0, 283.0
CAMERA = EyeCamera(FOCAL, (SIZE, SIZE), "argument")
Images = list[NDArray[np.uint8]]


@cache
def wearer(seed: int = 1, stream: str = "eye0", **kind: float) -> tuple[Images, NDArray[np.void]]:
    """Return 4 s of an eye, with a blink in them."""
    options = {"width": SIZE, "height": SIZE, "fps": FPS, "seed": seed, "seconds": 4, **kind}
    bank = open_bank(read_options(stream, options).bank)
    jpegs = [np.frombuffer(bank.jpeg(row), np.uint8) for row in range(len(bank.truth))]
    bank.close()
    return [np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE), np.uint8) for jpeg in jpegs], bank.truth


def detected(seed: int = 1, stream: str = "eye0", **settings: Any) -> list[list[dict[str, Any]]]:
    detector = PupilDetector(int(stream[3]), CAMERA, PupilSettings.of(settings))
    return [detector.detect(image, 10 + index / FPS) for index, image in enumerate(wearer(seed, stream)[0])]


def test_numbers_are_the_engines_own() -> None:
    """Engines called directly on the same images say the same, to the last bit."""
    flat, deep = engines.Detector2D(), Detector3D(CameraModel(FOCAL, (SIZE, SIZE)))
    images, _ = wearer()
    for index, ((datum_2d, datum_3d), image) in enumerate(zip(detected(gate=False)[:250], images, strict=False)):
        found = flat.detect(image)
        own = {name: list(value) if isinstance(value, tuple) else value for name, value in found["ellipse"].items()}
        assert datum_2d["ellipse"] == own
        assert (datum_2d["confidence"], datum_2d["diameter"]) == (found["confidence"], found["diameter"])
        with np.errstate(all="ignore"):
            model = deep.update_and_detect({**found, "timestamp": 10 + index / FPS}, image)
        assert np.array_equal(datum_3d["circle_3d"]["normal"], model["circle_3d"]["normal"], equal_nan=True)
        assert datum_3d["sphere"]["center"] == list(model["sphere"]["center"])
        for name in ("diameter_3d", "confidence", "model_confidence", "theta", "phi", "diameter"):
            assert datum_3d[name] == model[name]


def test_where_the_gate_is_silent_datums_are_untouched() -> None:
    for open_gate, closed_gate in zip(detected(gate=False, detect_3d=False), detected(detect_3d=False), strict=True):
        if "gate" in closed_gate[0]:
            assert closed_gate[0]["gate"]["confidence"] == open_gate[0]["confidence"]
        else:
            assert closed_gate == open_gate


COMMON = {"id": int, "topic": str, "method": str, "norm_pos": [float] * 2, "diameter": float, "confidence": float}
ELLIPSE = {"center": [float] * 2, "axes": [float] * 2, "angle": float}
SHAPE_2D = {**COMMON, "timestamp": float, "ellipse": ELLIPSE}
SHAPE_3D = {
    **SHAPE_2D,
    "location": [float] * 2,
    "sphere": {"center": [float] * 3, "radius": float},
    "projected_sphere": ELLIPSE,
    "circle_3d": {"center": [float] * 3, "normal": [float] * 3, "radius": float},
    "diameter_3d": float,
    "theta": float,
    "phi": float,
    "model_confidence": float,
}


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return [shape(each) for each in value] if isinstance(value, list) else type(value)


def test_datums_are_pupils() -> None:
    pairs = detected()
    reasons = set()
    for index, (datum_2d, datum_3d) in enumerate(pairs):
        gate, gate_3d = datum_2d.pop("gate", None), datum_3d.pop("gate", None)
        if gate is not None:
            reasons.add(gate["reason"])
            assert gate_3d["reason"] == gate["reason"]
        # Where the 2D engine finds nothing, the 3D engine has searched, and may have been refused.
        assert datum_2d["confidence"] <= (1.0 if gate_3d is None else 0.1)
        assert datum_3d["confidence"] <= (1.0 if gate_3d is None else 0.1)
        assert shape(datum_2d) == SHAPE_2D
        assert shape(datum_3d) == SHAPE_3D
        assert (datum_2d["topic"], datum_2d["method"], datum_2d["id"]) == ("pupil.0.2d", "2d c++", 0)
        assert (datum_3d["topic"], datum_3d["method"]) == ("pupil.0.3d", "pye3d 0.3.2 real-time")
        assert datum_2d["timestamp"] == datum_3d["timestamp"] == 10 + index / FPS
        assert datum_3d["sphere"]["radius"] == 10.392304845413264
        x, y = datum_2d["ellipse"]["center"]
        assert datum_2d["norm_pos"] == [x / SIZE, 1 - y / SIZE]
        assert datum_3d["location"] == datum_3d["ellipse"]["center"]
        assert datum_3d["diameter_3d"] == pytest.approx(2 * datum_3d["circle_3d"]["radius"])
        assert msgpack.unpackb(encode("pupil.0.3d", datum_3d)[1]) == datum_3d
        assert decode(encode("pupil.0.2d", datum_2d)).payload == datum_2d
    assert reasons
    assert reasons <= set(REASONS)


def test_recorded_eyes_say_so() -> None:
    image = wearer()[0][0]
    assert PupilDetector(1, CAMERA, mode="post-hoc").detect(image, 1.0)[1]["method"] == "pye3d 0.3.2 post-hoc"


@pytest.mark.parametrize(("seed", "stream"), [(1, "eye0"), (2, "eye1"), (3, "eye0")])
def test_the_truth_is_found_and_blinks_are_not_believed(seed: int, stream: str) -> None:
    _, truth = wearer(seed, stream)
    datums = [pair[0] for pair in detected(seed, stream, detect_3d=False)]
    confidence = np.array([datum["confidence"] for datum in datums])
    center = np.array([datum["ellipse"]["center"] for datum in datums])
    error = np.hypot(center[:, 0] - truth["cx"], center[:, 1] - truth["cy"])
    shown = truth["pupil_visible"] > 0.98
    assert np.median(error[shown]) < 0.2
    assert (confidence[shown] >= 0.6).mean() > 0.7
    assert (confidence[truth["pupil_visible"] < 0.5] < 0.5).all()
    # A frame that is right is not refused.
    gated = np.array(["gate" in datum for datum in datums])
    assert not gated[shown & (error < 1)].any()


KINDS: list[dict[str, float]] = [
    {"noise": 8, "lights": 6},
    {"pupil_mm": 6.5},
    {"pupil_mm": 3.2, "lights": 0},
    {"droop": 0.25},
    {"closed_s": 1.0},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_all_kinds_of_wearers_are_found_and_their_closed_eyes_are_not_believed(kind: dict[str, float]) -> None:
    images, truth = wearer(2, "eye1", **kind)
    closed, shown = truth["lid_opening"] == 0, truth["pupil_visible"] > 0.95
    # Around the blink, where something can go wrong.
    first, last = np.flatnonzero(closed)[[0, -1]]
    rows = range(max(0, first - 80), min(len(images), last + 80))
    detector = PupilDetector(1, CAMERA)
    pairs = [detector.detect(images[row], row / FPS) for row in rows]
    closed, shown = closed[rows], shown[rows]
    center = np.array([flat["ellipse"]["center"] for flat, _ in pairs])
    error = np.hypot(center[:, 0] - truth["cx"][rows], center[:, 1] - truth["cy"][rows])
    confidence = np.array([[datum["confidence"] for datum in pair] for pair in pairs])
    assert np.median(error[shown]) < 0.5
    assert (confidence[closed] < 0.5).mean(axis=0).min() >= 0.95
    right = shown & (error < 0.5)
    assert np.mean(["gate" in flat for (flat, _), yes in zip(pairs, right, strict=True) if yes]) < 0.02


def test_the_3d_model_survives_blinks() -> None:
    _, truth = wearer(2, "eye1")
    normal = np.array([pair[1]["circle_3d"]["normal"] for pair in detected(2, "eye1")])
    angle = np.degrees(np.arccos(np.clip((normal * truth["gaze"]).sum(axis=1), -1, 1)))
    after = (np.arange(len(truth)) / FPS > 3) & (truth["pupil_visible"] > 0.95)
    assert np.median(angle[after]) < 3


def test_what_arrays_come_in() -> None:
    """Read-only, sliced and reversed arrays crash the engine itself; here they are only copied."""
    image = wearer()[0][0]
    wanted = PupilDetector(0, CAMERA).detect(image, 1.0)
    assert wanted[0]["ellipse"]["axes"][0] > 10
    locked = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    wide = np.zeros((SIZE, 2 * SIZE), np.uint8)
    wide[:, ::2] = image
    for other in (locked, wide[:, ::2], np.asfortranarray(image), image[::-1][::-1]):
        assert PupilDetector(0, CAMERA).detect(other, 1.0) == wanted
    for wrong in (image[1:], image[..., None], image.astype(np.float32)):
        with pytest.raises(PluginError, match="wanted an image"):
            PupilDetector(0, CAMERA).detect(wrong, 1.0)


def test_nothing_there_is_no_error() -> None:
    detector = PupilDetector(0, CAMERA)
    noise = np.random.default_rng(1)
    for index in range(30):
        gray = index % 2 * noise.integers(0, 256, (SIZE, SIZE), np.uint8) if index % 3 else np.full((SIZE, SIZE), 9)
        flat, deep = detector.detect(gray.astype(np.uint8), 1 + index / 100)
        assert flat["confidence"] < 0.6
        assert deep["confidence"] < 0.7


def test_what_is_disabled_is_not_published() -> None:
    image = wearer()[0][0]
    detector = PupilDetector(0, CAMERA, PupilSettings(detect_3d=False))
    assert [datum["topic"] for datum in detector.detect(image, 1.0)] == ["pupil.0.2d"]
    detector.apply(PupilSettings(detect_2d=False))
    (bare,) = detector.detect(image, 2.0)
    assert bare == {
        "id": 0,
        "topic": "pupil.0.3d",
        "method": "pye3d 0.3.2 real-time",
        "norm_pos": [0.5, 0.5],
        "diameter": 0.0,
        "confidence": 0.0,
        "timestamp": 2.0,
    }
    detector.apply(PupilSettings(detect_2d=False, detect_3d=False))
    assert detector.detect(image, 3.0) == []


def test_only_the_roi_is_searched() -> None:
    images, truth = wearer()
    at = int(np.argmax(truth["pupil_visible"]))
    x, y, half = int(truth["cx"][at]), int(truth["cy"][at]), 50
    detector = PupilDetector(0, CAMERA, PupilSettings(detect_3d=False))
    whole = detector.detect(images[at], 1.0)[0]["ellipse"]["center"]
    detector.apply(PupilSettings(detect_3d=False, roi=(x - half, y - half, x + half, y + half)))
    assert detector.detect(images[at], 2.0)[0]["ellipse"]["center"] == pytest.approx(whole, abs=0.5)
    corner = (0, 0, max(20, x - half), max(20, y - half))
    detector.apply(PupilSettings(detect_3d=False, roi=corner))
    assert math.dist(detector.detect(images[at], 3.0)[0]["ellipse"]["center"], whole) > half / 2
    with pytest.raises(PluginArgument, match="reaches out"):
        detector.apply(PupilSettings(roi=(0, 0, SIZE, SIZE)))
    assert detector.settings.roi == corner


def test_the_model_can_be_frozen_and_reset() -> None:
    images, truth = wearer()
    good = np.flatnonzero(truth["pupil_visible"] > 0.98)
    detector = PupilDetector(0, CAMERA)

    def sphere(count: int, start: int, since: float) -> list[float]:
        for index in range(count):
            row = int(good[(start + index) % len(good)])
            deep = detector.detect(images[row], since + index / FPS)[1]
        return list(deep["sphere"]["center"])

    fresh = sphere(1, 0, 0.0)
    assert sphere(100, 1, 0.01) != fresh
    detector.apply(PupilSettings(is_long_term_model_frozen=True))
    kept = sphere(1, 101, 1.1)
    assert sphere(50, 102, 1.2) == kept
    detector.apply(PupilSettings())
    assert sphere(100, 152, 2.0) != kept
    detector.reset_model()
    assert sphere(1, 0, 4.0) == fresh


def test_time_that_goes_back_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    images, _ = wearer()
    detector = PupilDetector(0, CAMERA)
    first = detector.detect(images[0], 1000.0)
    for index in range(20):
        detector.detect(images[index], 1000.1 + index / FPS)
    again = detector.detect(images[0], 1000.0)
    assert again == first
    assert "time went back" in caplog.text


# ---- the gate by itself


def drawn(
    center: tuple[float, float] = (96, 96), size: float = 40, dark: int = 25, around: int = 110
) -> NDArray[np.uint8]:
    """Return an image of nothing but a pupil."""
    image = np.full((SIZE, SIZE), around, np.uint8)
    middle = (round(center[0] * 16), round(center[1] * 16))
    cv2.circle(image, middle, round(size * 8), dark, -1, cv2.LINE_AA, shift=4)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 1.0), np.uint8)


def claim(now: float, center: tuple[float, float] = (96.0, 96.0), size: float = 40.0) -> dict[str, Any]:
    return {"timestamp": now, "ellipse": {"center": list(center), "axes": [size, size], "angle": 0.0}}


def test_a_pupil_passes_with_reflections_in_it() -> None:
    gate = BlinkGate()
    image = drawn()
    cv2.circle(image, (102, 92), 4, 250, -1)
    for index in range(300):
        assert gate.judge(image, claim(index / 100)) == ""


@pytest.mark.parametrize("now", [1.0, 1.0e9])
def test_skin_is_bright_and_has_no_edge(now: float) -> None:
    skin = np.full((SIZE, SIZE), 120, np.uint8)
    assert BlinkGate().judge(skin, claim(now)) == "bright"
    assert BlinkGate().judge(drawn(dark=150), claim(now)) == "bright"
    # A dark fold through a bright disc.
    skin[90:102] = 30
    assert BlinkGate().judge(skin, claim(now)) == "bright"
    mostly_dark = drawn()
    mostly_dark[:, :106] = 25
    assert BlinkGate().judge(mostly_dark, claim(now)) in ("no-edge", "bright")


def test_an_ellipse_out_of_the_image_is_no_pupil() -> None:
    for center in ((-500.0, 20.0), (96.0, 1e6)):
        assert BlinkGate().judge(drawn(), claim(1.0, center)) == "no-edge"


def test_jumps_are_refused_for_a_while_and_then_believed() -> None:
    gate = BlinkGate()
    for index in range(100):
        assert gate.judge(drawn(), claim(index / 100)) == ""
    small = drawn(size=24)
    verdicts = [gate.judge(small, claim(1 + index / 100, size=24.0)) for index in range(150)]
    assert verdicts[0] == "size"
    assert 10 < verdicts.index("") < 60
    assert set(verdicts[60:]) == {""}


def test_a_pupil_that_narrows_as_pupils_do_is_followed() -> None:
    gate = BlinkGate()
    for index in range(100):
        size = 40.0 - 18 * min(1.0, index / 50)
        assert gate.judge(drawn(size=size), claim(index / 100, size=size)) == ""


def test_a_lid_that_comes_down_is_seen_and_one_that_always_hangs_is_not_minded() -> None:
    lid = drawn()
    lid[:86] = 120
    gate = BlinkGate()
    for index in range(50):
        assert gate.judge(drawn(), claim(index / 100)) == ""
    assert gate.judge(lid, claim(0.5)) == "covered"
    drooping = BlinkGate()
    for index in range(50):
        assert drooping.judge(lid, claim(index / 100)) == ""


def test_an_eye_that_was_closed_for_long_is_believed_as_soon_as_it_opens() -> None:
    gate = BlinkGate()
    fold = drawn((96, 150), size=20, dark=95)
    for index in range(50):
        assert gate.judge(drawn(), claim(index / 100)) == ""
    for index in range(50, 250):
        assert gate.judge(fold, claim(index / 100, (96, 150), size=20)) == "faded"
    assert gate.judge(drawn(size=36), claim(2.5, size=36)) == ""


def test_what_changes_all_the_time_is_never_believed() -> None:
    gate = BlinkGate()
    assert gate.judge(drawn(), claim(0.0)) == ""
    for index in range(1, 250):
        size = 12 + 3 * (index % 3)
        assert gate.judge(drawn(size=size), claim(index / 100, size=size)) == "size"


def test_an_eye_in_another_light_is_believed_in_the_end() -> None:
    gate = BlinkGate()
    assert gate.judge(drawn(), claim(0.0)) == ""
    bright = drawn(dark=90, around=200)
    verdicts = [gate.judge(bright, claim(index / 100)) for index in range(1, 400)]
    assert verdicts.index("") == 300
    assert set(verdicts[:300]) == {"faded"}
    assert set(verdicts[300:]) == {""}


def test_an_ellipse_inside_what_a_lid_leaves_of_a_pupil_is_refused() -> None:
    lid = drawn(size=48)
    lid[:88] = 120
    inscribed = {"timestamp": 1.0, "ellipse": {"center": [96.0, 104.0], "axes": [32.0, 40.0], "angle": 90.0}}
    assert BlinkGate().judge(lid, inscribed) == "cut"
    assert BlinkGate().judge(lid, claim(1.0, size=48.0)) == ""


def test_what_turns_bright_is_refused() -> None:
    gate = BlinkGate()
    for index in range(50):
        assert gate.judge(drawn(), claim(index / 100)) == ""
    assert gate.judge(drawn(dark=70), claim(0.5)) == "faded"
    # The same pupil in less light.
    assert gate.judge(drawn(dark=20, around=90), claim(0.51)) == ""
