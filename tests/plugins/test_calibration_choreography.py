"""What a calibration collects, without a bus."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest

from gazed_plugins.gaze.checks import MOST_REFERENCES, is_pupil, read_references
from gazed_plugins.gaze.choreography import CLASS_NAMES, Choreography, Plan, plan
from gazed_plugins.gaze.errors import ChoreographyRefused
from gazed_plugins.gaze.registry import make_gazer
from gazed_plugins.gaze.testing import GRID, WORLD, pupil_datums, reference, session, target_at

SIZE = (1280, 720)
NAN = math.nan


def marker(norm: tuple[float, float] = (0.5, 0.5), kind: str = "Ref") -> dict[str, Any]:
    return {**reference(norm, 0.0), "kind": kind, "size_px": 40.0}


def image(stamp: float, *markers: dict) -> dict[str, Any]:
    return {"topic": "marker.circle", "timestamp": stamp, "markers": list(markers), "width": 1280, "height": 720}


def choreography(kind: str = "marker", mode: str = "calibration", confidence: float = 0.8) -> Choreography:
    gazer = "GazerHMD3D" if kind == "hmd" else "Gazer3D"
    return Choreography(Plan(mode, kind, gazer), SIZE, confidence)


def test_one_marker_alone_is_a_reference() -> None:
    run = choreography()
    assert not any(run.add_markers(image(stamp, marker((0.2, 0.3)))) for stamp in (1.0, 1.1))
    run.add_markers(image(2.0))
    run.add_markers(image(3.0, marker(), marker((0.9, 0.9))))
    assert run.references == [reference((0.2, 0.3), 1.0), reference((0.2, 0.3), 1.1)]


def test_thirty_images_with_the_stop_marker_end_it_once() -> None:
    run = choreography()
    stop = marker(kind="Stop")
    ends = [run.add_markers(image(stamp, stop)) for stamp in range(29)]
    ends += [run.add_markers(image(29.0))]
    ends += [run.add_markers(image(30.0 + stamp, stop)) for stamp in range(40)]
    assert [row for row, end in enumerate(ends) if end] == [59]
    assert run.references == []


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"timestamp": 1.0},
        {"timestamp": 1.0, "markers": 5},
        image(NAN, marker()),
        image(1.0, {"kind": "Ref"}),
        image(1.0, {**marker(), "norm_pos": [NAN, 0.5]}),
        image(1.0, {**marker(), "screen_pos": "ab"}),
        {**image(1.0), "markers": [7]},
    ],
)
def test_messages_that_are_no_markers_change_nothing(message: dict) -> None:
    run = choreography()
    assert not run.add_markers(message)
    assert (run.references, run.refused) == ([], 1)


def test_references_from_the_network_are_completed() -> None:
    run = choreography("network")
    run.add_references([{"norm_pos": (0.25, 0.75), "timestamp": 1}, {"screen_pos": [640, 360], "timestamp": 2.0}])
    assert run.references == [
        {"norm_pos": [0.25, 0.75], "screen_pos": [320.0, 180.0], "timestamp": 1.0},
        {"norm_pos": [0.5, 0.5], "screen_pos": [640.0, 360.0], "timestamp": 2.0},
    ]


def test_references_of_a_display_are_in_mm() -> None:
    run = choreography("hmd")
    run.add_references([{"mm_pos": [1, 2, 600.0], "timestamp": 1.0, "more": 1}])
    assert run.references == [{"mm_pos": [1.0, 2.0, 600.0], "timestamp": 1.0}]
    with pytest.raises(ChoreographyRefused, match="no mm_pos"):
        run.add_references([{"norm_pos": [0.1, 0.1], "timestamp": 1.0}])


@pytest.mark.parametrize(
    "ref_data",
    [
        None,
        "abc",
        5,
        {},
        [5],
        [{}],
        [{"timestamp": 1.0}],
        [{"timestamp": "1", "norm_pos": [0, 0]}],
        [{"timestamp": True, "norm_pos": [0, 0]}],
        [{"timestamp": NAN, "norm_pos": [0, 0]}],
        [{"timestamp": 1.0, "norm_pos": [0, math.inf]}],
        [{"timestamp": 1.0, "norm_pos": [0]}],
        [{"timestamp": 1.0, "norm_pos": ["0", "1"]}],
        [{"timestamp": 1.0, "norm_pos": [0.1, 0.2]}, {"timestamp": 1.0}],
        [{"timestamp": 1.0, "norm_pos": [0.1, 0.2]}] * (MOST_REFERENCES + 1),
    ],
)
def test_of_references_that_are_not_well_formed_none_is_taken(ref_data: object) -> None:
    run = choreography("network")
    with pytest.raises(ChoreographyRefused):
        run.add_references(ref_data)
    assert run.references == []


def test_the_marker_choreography_says_that_it_takes_no_references() -> None:
    with pytest.raises(ChoreographyRefused, match="marker"):
        choreography().add_references([{"norm_pos": [0.5, 0.5], "timestamp": 1.0}])


@pytest.mark.parametrize(
    "spoil",
    [
        {"id": 2},
        {"id": True},
        {"id": "0"},
        {"timestamp": NAN},
        {"timestamp": None},
        {"confidence": "high"},
        {"method": 2},
        {"norm_pos": [0.5]},
        {"norm_pos": [NAN, 0.5]},
        {"sphere": 5},
        {"sphere": {"center": [1, 2]}},
        {"circle_3d": {"normal": [0, NAN, 1]}},
        {"circle_3d": None},
    ],
)
def test_pupils_with_a_wrong_number_are_not_used(spoil: dict) -> None:
    datum = pupil_datums(0, target_at((0.5, 0.5)), 1.0)[1]
    assert is_pupil(datum)
    assert not is_pupil({**datum, **spoil})


@pytest.mark.parametrize("gazer", ["Gazer2D", "Gazer3D"])
def test_the_pupils_that_are_kept_fit_as_all_of_them_do(gazer: str) -> None:
    data = session(each=4)
    more = []
    for row, pupil in enumerate(data["pupil_list"]):
        # Three times as many, some too uncertain to be used though they are nearest.
        more += [{**pupil, "timestamp": pupil["timestamp"] + shift, "confidence": 0.95} for shift in (0.005, 0.01)]
        pupil["confidence"] = 0.95 if row % 3 else 0.5
    run = choreography("network")
    run.add_references(data["ref_list"])
    for pupil in sorted([*data["pupil_list"], *more], key=lambda pupil: pupil["timestamp"]):
        run.add_pupil(pupil)
    kept = [msgpack.unpackb(packed) for packed in run.pupils()]
    assert len(kept) < len(data["pupil_list"] + more)
    everything = {**data, "pupil_list": data["pupil_list"] + more}
    assert make_gazer(gazer, WORLD).fit({**data, "pupil_list": kept}) == make_gazer(gazer, WORLD).fit(everything)


def test_a_validation_measures_with_all_that_is_near_its_references() -> None:
    run = choreography("network", "validation")
    run.add_references([{"norm_pos": [0.5, 0.5], "timestamp": 10.0}])
    for stamp in (9.9, 9.95, 10.0, 10.05, 10.1):
        run.add_pupil(pupil_datums(0, target_at((0.5, 0.5)), stamp)[0])
    assert [msgpack.unpackb(packed)["timestamp"] for packed in run.pupils_around()] == [9.95, 10.0, 10.05]
    assert len(run.pupils()) == 1


def test_what_nobody_ends_stays_bounded() -> None:
    run = choreography()
    for row in range(3 * MOST_REFERENCES):
        run.add_markers(image(float(row), marker()))
    assert MOST_REFERENCES // 2 <= len(run.references) <= MOST_REFERENCES
    steps = {b["timestamp"] - a["timestamp"] for a, b in zip(run.references, run.references[1:], strict=False)}
    assert steps == {4.0}


def test_pupils_without_a_reference_stay_bounded_and_go_on_to_the_end() -> None:
    run = choreography("network")
    datums = [pupil_datums(eye, target_at((0.5, 0.5)), 0.0) for eye in (0, 1)]
    for row in range(30_000):
        for eye in datums:
            for datum in eye:
                datum["timestamp"] = row / 200
                run.add_pupil(datum)
    assert 25_000 <= run.pupil_count <= 100_000
    run.add_references([{"norm_pos": [0.5, 0.5], "timestamp": float(second)} for second in range(150)])
    kept = [msgpack.unpackb(packed) for packed in run.pupils()]
    assert len(kept) == 4 * 150
    assert max(abs(datum["timestamp"] - round(datum["timestamp"])) for datum in kept) < 0.02


def test_what_a_start_asks_for() -> None:
    assert plan("calibration", {}, "marker", "Gazer3D") == Plan("calibration", "marker", "Gazer3D")
    asked = {"choreography": "network", "gazer": "Gazer2D", "name": "S1"}
    assert plan("validation", asked, "marker", "Gazer3D") == Plan("validation", "network", "Gazer2D", "S1")
    places = {"translation_eye0": [34, 0, 0], "translation_eye1": (-34.0, 0, 0)}
    wanted = Plan("calibration", "hmd", "GazerHMD3D", "", [[34.0, 0.0, 0.0], [-34.0, 0.0, 0.0]])
    assert plan("calibration", places, "hmd", "Gazer3D") == wanted


@pytest.mark.parametrize(
    ("mode", "note", "kind", "gazer", "text"),
    [
        ("calibration", {"choreography": "dance"}, "marker", "Gazer3D", "no choreography 'dance'"),
        ("calibration", {"choreography": ["marker"]}, "marker", "Gazer3D", "no choreography"),
        ("calibration", {"gazer": "NeonGazer3D"}, "marker", "Gazer3D", "NeonGazer3D"),
        ("calibration", {"gazer": {}}, "marker", "Gazer3D", "no gazer"),
        ("calibration", {"name": 5}, "marker", "Gazer3D", "a string"),
        ("calibration", {}, "marker", "GazerHMD3D", "has no gazer 'GazerHMD3D'"),
        ("calibration", {}, "hmd", "Gazer3D", "translation_eye0 and translation_eye1"),
        ("calibration", {"translation_eye0": [1, 2, 3]}, "hmd", "Gazer3D", "translation_eye1"),
        (
            "calibration",
            {"translation_eye0": [1, 2, 3], "translation_eye1": [1, NAN, 2]},
            "hmd",
            "Gazer3D",
            "3 numbers",
        ),
        ("validation", {}, "hmd", "GazerHMD3D", "cannot be validated"),
    ],
)
def test_what_cannot_begin_is_refused_in_words(mode: Any, note: dict, kind: str, gazer: str, text: str) -> None:
    with pytest.raises(ChoreographyRefused, match=text):
        plan(mode, note, kind, gazer)


def test_pupils_names_for_choreographies() -> None:
    assert set(CLASS_NAMES.values()) == {"marker", "hmd"}
    assert len(read_references([reference(place, 1.0) for place in GRID], "place", SIZE)) == 9
