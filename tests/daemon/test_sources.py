"""What is asked of the sources before the daemon starts."""

import pytest

from gazed.config import load_config
from gazed.errors import ConfigError, DaemonError
from gazed.sources import StreamPlan, check_sources, controller_loads, plan_streams, refuse_ambiguous


def camera(stream, reserves, controller="usb1", path=""):
    return StreamPlan(stream, "uvc", "Pupil Cam", "1", path or stream, controller, reserves, limit=6000)


def test_the_plan_names_the_device_of_each_stream():
    plans = plan_streams(load_config("simulated"))
    assert [(plan.stream, plan.name) for plan in plans] == [
        ("world", "Simulated world camera"),
        ("eye0", "Simulated right eye camera"),
        ("eye1", "Simulated left eye camera"),
        ("audio", "Simulated microphone"),
    ]
    assert not any(plan.code for plan in plans)


def test_the_plan_tells_what_is_missing_and_goes_on(tmp_path):
    stream = {"source": "file", "options": {"path": str(tmp_path / "none.mp4")}}
    world, *eyes = plan_streams(load_config("simulated", overrides={"streams": {"world": stream}}))
    assert world.code == "source-not-found"
    assert "none.mp4" in world.message
    assert all(eye.name for eye in eyes)


def test_a_driver_that_hangs_does_not_keep_the_daemon():
    with pytest.raises(DaemonError, match="longer than 0 s"):
        plan_streams(load_config("simulated"), patience_s=0)


def test_cameras_that_do_not_fit_are_named_in_the_order_of_the_configuration():
    plans = [camera("world", 3000), camera("eye0", 3200), camera("eye1", 2900), camera("eye2", 9, "usb2")]
    first, second = controller_loads(plans)
    assert (first.asked, first.left_out) == (9100, ["eye0"])
    assert first.text == (
        "usb1: 9100 of 6000 bytes a microframe asked for (world 3000, eye0 3200, eye1 2900); no room for eye0"
    )
    assert (second.left_out, second.text) == ([], "usb2: 9 of 6000 bytes a microframe asked for (eye2 9)")


def test_chance_never_decides_which_camera_a_stream_gets():
    both = StreamPlan("eye0", "uvc", code="device-ambiguous", message="two cameras fit: A, B", hint="serial = 'A'")
    with pytest.raises(DaemonError, match="eye0: two cameras fit: A, B") as refused:
        refuse_ambiguous([both])
    assert refused.value.hint == "serial = 'A'"
    with pytest.raises(DaemonError, match=r"eye0 and streams\.eye1 both take Pupil Cam \(1, 1-4\)"):
        refuse_ambiguous([camera("eye0", 1, path="1-4"), camera("eye1", 1, path="1-4")])
    refuse_ambiguous([camera("eye0", 1, path="1-4"), camera("eye1", 1, path="1-5")])


@pytest.mark.parametrize(("stream", "source"), [("world", "tone"), ("audio", "simulated")])
def test_a_stream_takes_only_sources_of_its_kind(stream, source):
    config = load_config("simulated", overrides={"streams": {stream: {"source": source, "options": {}}}})
    with pytest.raises(ConfigError, match=rf"streams\.{stream}: source '{source}' delivers .*'{stream}'"):
        check_sources(config)
