"""The sound once more, as Pupil Player takes it: where it looks, when it was, and why it may be missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from gazed_recorder.errors import DamagedFile
from gazed_recorder.finish import finish
from gazed_recorder.layout import SOUND
from gazed_recorder.manifest import Manifest
from gazed_recorder.player_sound import write_player_sound
from gazed_recorder.records import FrameRecord
from gazed_recorder.repair import repair, settle
from gazed_recorder.sound import SoundPart
from gazed_recorder.testing import SAMPLE_RATE, make_recording
from gazed_recorder.verify import verify

RATE, BLOCK = 48_000, 1024
STREAMS = ("world", "eye0", "audio")


def write(folder: Path, stem: str, sound: npt.NDArray[np.int16], rate: int, drift: float = 1.0) -> None:
    part = SoundPart(folder, stem, rate, *sound.shape[1:])
    for number, block in enumerate(sound):
        at = 50 + number * len(block) / rate * drift
        part.write(FrameRecord(number, 0.0, 0, 0, at, 0), block.tobytes())
    part.close()


def noise(blocks: int) -> npt.NDArray[np.int16]:
    return np.random.default_rng(1).integers(-(2**15), 2**15, (blocks, BLOCK, 1)).astype("<i2")


def demuxed(path: Path) -> list[tuple[int, int]]:
    with av.open(path) as container:
        return [(packet.pts, packet.duration) for packet in container.demux(audio=0) if packet.size]


def test_players_find_the_sound_and_nothing_else_in_it(tmp_path):
    """The rules by which Pupil Player loads a folder."""
    folder = make_recording(tmp_path, streams=STREAMS, parts=2)
    names = sorted(path.name for path in folder.iterdir())
    sound = [name for name in names if re.match(r"^audio.*\.mp4$", name)]
    assert sound == ["audio.mp4", "audio_001.mp4"]
    videos = [name for name in names if re.match(r"^(world|eye[01]).*\.(mp4|mjpeg|h264|mkv|avi|fake)$", name)]
    assert not set(sound) & set(videos)
    for name in sound:
        path = folder / name
        stamps = np.load(path.with_name(f"{path.stem}_timestamps.npy"))
        assert (stamps.dtype.str, stamps.ndim, bool((np.diff(stamps) > 0).all())) == ("<f8", 1, True)
        assert demuxed(path) == [(BLOCK * number, BLOCK) for number in range(len(stamps))]
        assert len(stamps) == 7
        with av.open(path) as container:
            assert (len(container.streams), len(container.streams.video)) == (1, 0)
            [stream] = container.streams.audio
            # It divides by the length of a frame, which libav knows of AAC and not of FLAC.
            assert (stream.codec_context.name, stream.rate, stream.channels) == ("aac", SAMPLE_RATE, 2)
            assert (stream.codec_context.frame_size, stream.codec_context.format.name) == (BLOCK, "fltp")
            assert (stream.time_base, stream.start_time) == (Fraction(1, SAMPLE_RATE), 0)
    if shutil.which("ffprobe"):
        for name, codec, count in (("audio.mp4", "aac", "7"), ("sound.mp4", "flac", "6")):
            ask = ["-v", "warning", "-count_frames", "-show_entries", "stream=codec_name,nb_frames,nb_read_frames"]
            done = subprocess.run(
                ["ffprobe", *ask, "-of", "json", folder / name], capture_output=True, text=True, check=True
            )
            [shown] = json.loads(done.stdout)["streams"]
            assert (shown, done.stderr) == ({"codec_name": codec, "nb_frames": count, "nb_read_frames": count}, "")


@pytest.mark.parametrize(
    ("rate", "samples", "channels"), [(48_000, 1024, 1), (44_100, 480, 2), (192_000, 4096, 1), (16_000, 1024, 4)]
)
def test_players_hear_each_click_when_it_was(tmp_path, rate, samples, channels):
    drift = 1.0002
    sound = np.zeros((3 * rate // samples, samples, channels), "<i2")
    clicks = [rate // 2, rate, 2 * rate + 77]
    for click in clicks:
        sound[click // samples, click % samples] = 20_000
    write(tmp_path, SOUND, sound, rate, drift)
    assert write_player_sound(tmp_path, [SOUND]) == ""
    stamps = np.load(tmp_path / "audio_timestamps.npy")
    with av.open(tmp_path / "audio.mp4") as container:
        frames = list(container.decode(audio=0))
        assert len(stamps) == len(frames)
        heard_at = np.concatenate(
            [stamp + np.arange(frame.samples) / frame.sample_rate for stamp, frame in zip(stamps, frames, strict=True)]
        )
        wave = np.abs(np.concatenate([frame.to_ndarray()[0] for frame in frames]))
    for click in clicks:
        near = np.flatnonzero(np.abs(heard_at - (50 + click / rate * drift)) < 0.1)
        assert abs(heard_at[near[np.argmax(wave[near])]] - (50 + click / rate * drift)) < 0.0005


@pytest.mark.parametrize("why", ["no time", "damaged"])
def test_players_that_get_no_sound_are_told_why(tmp_path, why):
    folder = make_recording(tmp_path, streams=STREAMS, closed=False)
    manifest = Manifest.load(folder)
    settle(folder, manifest)
    if why == "damaged":
        (folder / "sound_timestamps.npy").write_bytes(b"")
    problems = finish(folder, manifest, hurry=lambda: why == "no time")
    events = [event["event"] for event in manifest.events]
    assert ("player-sound-skipped" in events, len(problems)) == (True, int(why == "damaged"))
    assert list(folder.glob("audio*")) == []
    assert bool(verify(folder).problems) == (why == "damaged")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
@pytest.mark.parametrize("enough", ["for nothing", "for some", "for the mp4 alone"])
def test_players_get_no_sound_where_there_is_no_room_for_it(small_disk, tmp_path, enough):
    for folder in (small_disk, tmp_path):
        write(folder, SOUND, noise(300), RATE)
    assert write_player_sound(tmp_path, [SOUND]) == ""
    size = (tmp_path / "audio.mp4").stat().st_size
    room = {"for nothing": 0, "for some": 20_000, "for the mp4 alone": size + -size % 4096}[enough]
    (small_disk / "ballast").write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
    assert write_player_sound(small_disk, [SOUND]) == "the disk became full"
    assert list(small_disk.glob("audio*")) == []


def test_a_damaged_part_costs_players_that_part_alone(tmp_path):
    for stem in (SOUND, "sound_001"):
        write(tmp_path, stem, noise(3), RATE)
    (tmp_path / "sound_timestamps.npy").write_bytes(b"")
    with pytest.raises(DamagedFile, match=r"sound_timestamps\.npy"):
        write_player_sound(tmp_path, [SOUND, "sound_001"])
    assert sorted(path.name for path in tmp_path.glob("audio*")) == ["audio_001.mp4", "audio_001_timestamps.npy"]


@pytest.mark.parametrize(
    ("rate", "samples", "blocks"), [(4000, 100, 12), (11_000, 480, 1), (12_345, 480, 11), (37_800, 997, 17)]
)
def test_sound_of_any_length_and_rate_has_a_copy(tmp_path, rate, samples, blocks):
    """Libav has trouble with some ends of sound whose rate AAC does not have."""
    write(tmp_path, SOUND, np.zeros((blocks, samples, 1), "<i2"), rate)
    assert write_player_sound(tmp_path, [SOUND]) == ""
    stamps = np.load(tmp_path / "audio_timestamps.npy")
    assert [pts for pts, _ in demuxed(tmp_path / "audio.mp4")] == [BLOCK * number for number in range(len(stamps))]
    assert stamps[-1] + BLOCK / RATE >= 50 + samples * blocks / rate


def test_repair_makes_what_the_stop_had_no_time_for(tmp_path):
    folder = make_recording(tmp_path, streams=STREAMS, closed=False)
    manifest = Manifest.load(folder)
    settle(folder, manifest)
    finish(folder, manifest, hurry=lambda: True)
    assert not list(folder.glob("audio*"))
    assert repair(folder).repaired
    assert [event["event"] for event in Manifest.load(folder).events] == []
    assert (folder / "audio.mp4").exists()
    assert (folder / "pupil_data").exists()
    assert verify(folder).problems == []
    assert not repair(folder).repaired
