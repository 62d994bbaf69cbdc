"""Which plugins a configuration starts, and what it refuses before anything starts."""

import pytest

from gazed.analysis import check_analysis, plan_analysis, without_analysis
from gazed.config import load_config
from gazed.doctor import Check
from gazed.errors import ConfigError

ON = {"pupil": {"enabled": True}, "gaze": {"enabled": True}}


def plan(streams, **tables):
    return plan_analysis(load_config(overrides=tables), streams)


def test_nothing_is_computed_unless_it_is_asked_for():
    assert plan(("world", "eye0", "eye1")) == {}
    for profile in ("simulated", "simulated-200hz", "pupil-core"):
        config = load_config(profile)
        assert list(plan_analysis(config, config.enabled_streams)) == ["pupil0", "pupil1", "gaze", "marker"]
        assert config.plugins.start == ("Blink_Detection", "Fixation_Detector")
        bare = without_analysis(config)
        assert (plan_analysis(bare, bare.enabled_streams), bare.plugins.start) == ({}, ())


def test_one_detector_for_each_eye_and_a_marker_detector_where_there_is_a_world():
    plans = plan(("eye1", "audio"), pupil={"enabled": True, "options": {"every_nth": 2}}, gaze={"enabled": True})
    assert list(plans) == ["pupil1", "gaze"]
    assert plans["pupil1"].arguments == {"eye": 1, "every_nth": 2}
    assert plans["gaze"].arguments == {
        "gazer": "Gazer3D",
        "choreography": "marker",
        "min_calibration_confidence": 0.8,
        "calibration": "",
        "folder": "",
    }


def test_settings_of_the_detector_are_checked_beforehand():
    pytest.importorskip("pupil_detectors")
    check_analysis(load_config(overrides={"pupil": {"options": {"focal_length": 280.0, "detect_3d": False}}}))
    with pytest.raises(ConfigError, match=r"pupil\.options: .*no argument 'every_nt'") as caught:
        check_analysis(load_config(overrides={"pupil": {"options": {"every_nt": 2}}}))
    assert caught.value.hint == "did you mean every_nth?"


def test_detectors_that_are_not_installed_are_named_with_the_remedy(monkeypatch):
    missing = Check("gazed[detect]", "advice", "pye3d is not installed", "pip install 'gazed[detect]'")
    monkeypatch.setattr("gazed.doctor.check_extra", lambda _extra: missing)
    check_analysis(load_config())
    with pytest.raises(ConfigError) as caught:
        check_analysis(load_config(overrides=ON))
    assert caught.value.message == "pupil.enabled: wanted gazed[detect], but pye3d is not installed"
    assert caught.value.hint.startswith("pip install 'gazed[detect]'")
    assert caught.value.hint.endswith("--set pupil.enabled=false --set gaze.enabled=false")
