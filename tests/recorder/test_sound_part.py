"""Sound in a recording: exact to the sample, whole at every instant, and in the place where players look for it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed.summary import describe, recorded_frames
from gazed_bus.frame import AUDIO, StreamInfo
from gazed_recorder.errors import DamagedFile
from gazed_recorder.layout import SOUND
from gazed_recorder.manifest import Manifest, StreamReport
from gazed_recorder.mp4_boxes import preamble
from gazed_recorder.mp4_scan import scan
from gazed_recorder.part import repair_part
from gazed_recorder.reader import Recording
from gazed_recorder.reading.sound import read_sound
from gazed_recorder.records import FrameRecord
from gazed_recorder.refused import NotSound
from gazed_recorder.repair import repair
from gazed_recorder.sound import SoundPart
from gazed_recorder.testing import SAMPLE_RATE, SIZE, make_recording, make_sound
from gazed_recorder.verify import verify
from gazed_recorder.verify_part import check_part

RATE, BLOCK = 48_000, 1024
BLOCK_S = BLOCK / RATE
INFO = StreamInfo(AUDIO, "test", "card", "1", BLOCK, 2, 1 / BLOCK_S, "pcm", "arrival", sample_rate=RATE)
STREAMS = ("world", "eye0", AUDIO)


def noise(seed: int, blocks: int, channels: int = 2, samples: int = BLOCK) -> npt.NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    return rng.integers(-(2**15), 2**15, (blocks, samples, channels)).astype("<i2")


def write(part: SoundPart, sound: npt.NDArray[np.int16]) -> None:
    length = sound.shape[1] / part.track.timescale
    for number, block in enumerate(sound):
        part.write(FrameRecord(number, float("nan"), number, number, 50 + number * length, 0), block.tobytes())


def heard(folder: Path, stem: str = SOUND) -> npt.NDArray[np.int16]:
    blocks = read_sound(folder / f"{stem}.mp4", np.load(folder / f"{stem}_timestamps.npy"))
    return np.array([block.samples for block in blocks])


def demuxed(path: Path) -> list[tuple[int, int]]:
    with av.open(path) as container:
        return [(packet.pts, packet.duration) for packet in container.demux(audio=0) if packet.size]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 9), blocks=st.integers(1, 12), channels=st.integers(1, 8),
    rate=st.sampled_from([8_000, 16_000, 44_100, 48_000, 96_000, 192_000]), samples=st.sampled_from([1024, 480, 4096]),
)  # fmt: skip
def test_what_comes_is_what_is_heard(tmp_path_factory, seed, blocks, channels, rate, samples):
    folder = tmp_path_factory.mktemp("s")
    sound = noise(seed, blocks, channels, samples)
    part = SoundPart(folder, SOUND, rate, samples, channels)
    write(part, sound)
    assert np.array_equal(heard(folder), sound)
    part.close()
    part.close()
    assert np.array_equal(heard(folder), sound)
    assert demuxed(folder / "sound.mp4") == [(samples * number, samples) for number in range(blocks)]
    assert (scan(folder / "sound.mp4").track, scan(folder / "sound.mp4").final) == (part.track, True)
    assert not repair_part(folder, SOUND).changed


@pytest.mark.parametrize("kind", ["silence", "loudest", "tone"])
def test_sound_that_packs_well_is_exact_too(tmp_path, kind):
    wave = np.round(9000 * np.sin(np.arange(5 * BLOCK) / 20)).astype("<i2").reshape(5, BLOCK, 1)
    sound = {"silence": wave * 0, "loudest": np.full_like(wave, -(2**15)), "tone": wave}[kind]
    part = SoundPart(tmp_path, SOUND, RATE, BLOCK, 1)
    write(part, sound)
    part.close()
    assert np.array_equal(heard(tmp_path), sound)
    assert (tmp_path / "sound.mp4").stat().st_size < sound.nbytes


@settings(max_examples=80, deadline=None)
@given(blocks=st.integers(1, 6), where=st.floats(0, 1), final=st.booleans())
def test_a_file_cut_anywhere_is_repaired_to_its_whole_blocks(tmp_path_factory, blocks, where, final):
    folder = tmp_path_factory.mktemp("s")
    sound = noise(blocks, blocks, 1)
    part = SoundPart(folder, SOUND, RATE, BLOCK, 1)
    write(part, sound)
    part.sync()
    running = (folder / "sound.mp4").read_bytes()
    part.close()
    path = folder / "sound.mp4"
    data = path.read_bytes() if final else running
    found = scan(path)
    start = len(preamble(part.track))
    cut = start + round((len(data) - 1 - start) * where)
    path.write_bytes(data[:cut])
    kept = int((found.offsets + found.sizes + 104 <= cut).sum())
    result = repair_part(folder, SOUND)
    assert len(result.records) == kept
    if not kept:
        assert list(folder.iterdir()) == []
        return
    assert np.array_equal(heard(folder), sound[:kept])
    assert len(demuxed(path)) == len(np.load(folder / "sound_timestamps.npy")) == kept
    assert scan(path).final


@settings(max_examples=80, deadline=None)
@given(flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), min_size=1, max_size=4), header=st.booleans())
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path_factory, flips, header):
    folder = tmp_path_factory.mktemp("s")
    part = SoundPart(folder, SOUND, 8000, 64, 1)
    write(part, noise(1, 3, 1, 64))
    part.close()
    path = folder / "sound.mp4"
    data = bytearray(path.read_bytes())
    for where, change in flips:
        data[round(where * ((700 if header else len(data)) - 1))] ^= change
    path.write_bytes(data)
    try:
        found = scan(path)
    except DamagedFile as error:
        assert str(error).startswith(str(path))  # noqa: PT017 - either outcome will do
    else:
        assert len(found.dts) <= 3
        assert found.end + found.torn <= len(data)


@pytest.mark.parametrize("size", [0, 1, 2 * BLOCK, 4 * BLOCK - 1, 4 * BLOCK + 4])
def test_a_block_of_another_length_is_refused(tmp_path, size):
    part = SoundPart(tmp_path, SOUND, RATE, BLOCK, 2)
    write(part, noise(1, 2))
    with pytest.raises(NotSound, match=f"sound: a block of {size} bytes, wanted 1024 samples of 2 channels"):
        part.write(FrameRecord(2, 0.0, 2, 2, 51.0, 0), bytes(size))
    part.close()
    assert len(heard(tmp_path)) == 2


@pytest.mark.parametrize(
    ("rate", "samples", "channels"),
    [
        (0, 1024, 1),
        (RATE, 0, 1),
        (-1, 1024, 1),
        (10**12, 1024, 1),
        (RATE, 15, 1),
        (RATE, 65_536, 1),
        (RATE, 1024, 0),
        (RATE, 16, 9),
    ],
)
def test_sound_that_flac_cannot_hold_is_refused_in_words(tmp_path, rate, samples, channels):
    with pytest.raises(NotSound, match=f"{channels} channels at {rate} Hz, {samples} samples a block"):
        SoundPart(tmp_path, SOUND, rate, samples, channels)
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from gazed_recorder.records import FrameRecord
from gazed_recorder.sound import SoundPart
from gazed_recorder.testing import SAMPLE_RATE, make_sound
part = SoundPart(Path(sys.argv[1]), "sound", SAMPLE_RATE, 1024, 2)
for i in range(10_000_000):
    part.write(FrameRecord(i, 0.0, i, i, 7 + i * 1024 / SAMPLE_RATE, 0), make_sound(i))
    sys.stdout.write(f"{i}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("after", [3, 400])
def test_a_killed_writer_loses_nothing_it_had_written(tmp_path, after):
    # The writer tells of each block; it is killed somewhere in the middle of a later one.
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True) as child:
        told = next(int(line) for line in child.stdout if int(line) >= after)
        child.kill()
        told = max([told, *(int(line) for line in child.stdout if line.endswith("\n"))])
    live = demuxed(tmp_path / "sound.mp4")
    assert len(live) >= told + 1
    result = repair_part(tmp_path, SOUND)
    assert (len(result.records), result.lost <= 1) == (len(live), True)
    assert demuxed(tmp_path / "sound.mp4") == live
    assert heard(tmp_path).tobytes() == b"".join(make_sound(number) for number in range(len(live)))


# --- the folder -----------------------------------------------------------------------------------------------------


def parts(report: StreamReport) -> list[tuple[str, int]]:
    return [(part.file, part.frames) for part in report.parts]


@pytest.mark.parametrize("count", [1, 3])
def test_a_recording_with_sound_is_verified_and_read(tmp_path, count):
    folder = make_recording(tmp_path, streams=STREAMS, parts=count)
    result = verify(folder)
    assert result.problems == []
    assert result.streams[AUDIO]["frames"] == 12
    recording = Recording(folder)
    assert (recording.streams, recording.has_sound) == (("world", "eye0"), True)
    blocks = list(recording.sound())
    assert b"".join(block.samples.tobytes() for block in blocks) == b"".join(make_sound(n) for n in range(12))
    assert [block.timestamp for block in blocks] == recording.timestamps(AUDIO).tolist()
    assert {(block.samples.shape, block.rate) for block in blocks} == {(SIZE[AUDIO], SAMPLE_RATE)}
    shown = describe(folder)["streams"][AUDIO]
    assert (shown["kind"], shown["count"], shown["rate"]) == ("audio", 12, 46.875)
    assert recorded_frames(folder, AUDIO)["sequence"].tolist() == list(range(12))


def test_a_recording_without_sound_says_so(tmp_path):
    recording = Recording(make_recording(tmp_path))
    assert (recording.has_sound, list(recording.sound())) == (False, [])


@pytest.mark.parametrize("manifest", [True, False])
def test_a_torn_recording_with_sound_is_repaired(tmp_path, manifest):
    folder = make_recording(tmp_path, streams=STREAMS, parts=2, closed=False)
    path = folder / "sound_001.mp4"
    path.write_bytes(path.read_bytes()[:-50])
    if not manifest:
        (folder / "manifest.json").write_bytes(b"")
    result = repair(folder)
    assert result.problems == []
    assert verify(folder).problems == []
    report = Manifest.load(folder).streams[AUDIO]
    assert (report.kind, report.written, report.lost) == ("audio", 11, 1)
    assert parts(report) == [("sound.mp4", 6), ("sound_001.mp4", 5)]
    assert not (folder / "audio.intrinsics").exists()
    assert heard(folder).tobytes() == b"".join(make_sound(number) for number in range(6))
    assert heard(folder, "sound_001").tobytes() == b"".join(make_sound(number) for number in range(6, 11))


@pytest.mark.parametrize("closed", [True, False])
def test_the_copy_for_players_is_none_of_the_sound_where_the_manifest_is_gone(tmp_path, closed):
    folder = make_recording(tmp_path, streams=STREAMS, closed=closed)
    (folder / "manifest.json").unlink()
    assert len(list(Recording(folder).sound())) == 12
    assert repair(folder).problems == []
    assert verify(folder).problems == []
    assert parts(Manifest.load(folder).streams[AUDIO]) == [("sound.mp4", 12)]


@pytest.mark.parametrize("cut", [0, 1, 27, 28, 40, 300, 728])
def test_sound_that_ends_before_its_first_block_is_removed(tmp_path, cut):
    folder = make_recording(tmp_path, streams=STREAMS, frames=1, closed=False)
    path = folder / "sound.mp4"
    path.write_bytes(path.read_bytes()[:cut])
    assert repair(folder).problems == []
    report = Manifest.load(folder).streams[AUDIO]
    assert (report.received, report.written, report.lost, report.parts) == (1, 0, 1, [])
    assert verify(folder).problems == ["audio: expected, but nothing of it was recorded"]


@pytest.mark.parametrize("stem", [SOUND, "world"])
def test_no_bit_beside_the_frames_can_flip_unseen(tmp_path, stem):
    folder = make_recording(tmp_path, streams=STREAMS, frames=3)
    path = folder / f"{stem}.mp4"
    data = path.read_bytes()
    found = scan(path)
    start, last = len(preamble(found.track)), int(found.offsets[-1] + found.sizes[-1])
    # How long a frame lasts ends 48 bytes before the fragment does.
    for at in (*range(1, start, 41), *range(last, found.end, 7), found.end - 49, *range(found.end, len(data), 41)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        assert check_part(folder, stem, ours=True, deep=False, seen=lambda _: None).problems, at


def damage_packet(folder: Path) -> str:
    at = int(scan(folder / "sound.mp4").offsets[3]) + 200
    with (folder / "sound.mp4").open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    return r"sound\.mp4: frame 3 is damaged"


def move_block(folder: Path) -> str:
    (folder / "sound.mp4").unlink()
    for name in ("sound_timestamps.npy", "sound_frames.npy"):
        (folder / name).unlink()
    part = SoundPart(folder, SOUND, SAMPLE_RATE, *SIZE[AUDIO])
    for number in range(12):
        at = 100.01 + number * BLOCK_S + 0.2 * (number > 6)
        part.write(FrameRecord(number, 0.0, 0, 0, at, 0), make_sound(number))
    part.close()
    return r"sound_frames\.npy: block 7 does not begin where block 6 ends"


def lose_file(folder: Path) -> str:
    for path in (*folder.glob("audio*"), *folder.glob("sound*")):
        path.unlink()
    return r"audio: 0 on disk, manifest\.json promises 12"


def lose_the_players_copy(folder: Path) -> str:
    (folder / "audio.mp4").unlink()
    return r"audio\.mp4 is missing"


def change_the_players_copy(folder: Path) -> str:
    path = folder / "audio.mp4"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return r"audio\.mp4 was changed"


def add_lookalike(folder: Path) -> str:
    shutil.copy(folder / "audio.mp4", folder / "audio_mixed.mp4")
    return r"audio_mixed\.mp4: players take it for a part of audio"


def add_another_part(folder: Path) -> str:
    shutil.copy(folder / "audio.mp4", folder / "audio_001.mp4")
    return r"audio_001\.mp4: players take it for a part of audio"


def write_other_index(folder: Path) -> str:
    path = folder / "sound.mp4"
    data = bytearray(path.read_bytes())
    at = data.rindex(b"stts") + 16
    data[at : at + 4] = (1000).to_bytes(4, "big")
    path.write_bytes(data)
    return r"sound\.mp4: frame 1 is shown at 0\.020833 s, its timestamp wants 0\.021333 s"


@pytest.mark.parametrize(
    "damage",
    [
        damage_packet,
        move_block,
        lose_file,
        lose_the_players_copy,
        change_the_players_copy,
        add_lookalike,
        add_another_part,
        write_other_index,
    ],
)
def test_verify_names_what_is_wrong_with_the_sound(tmp_path, damage):
    folder = make_recording(tmp_path, streams=STREAMS)
    wanted = damage(folder)
    problems = verify(folder).problems
    assert any(re.search(wanted, problem) for problem in problems), problems
    assert all("audio" in problem or "sound" in problem for problem in problems)


def test_the_sound_of_another_writer_is_read_and_verified(tmp_path):
    """Pupil Capture wrote AAC, whose encoder puts a packet of its own in front."""
    folder = make_recording(tmp_path)
    for path in (folder / "manifest.json", *folder.glob("*_frames.npy")):
        path.unlink()
    info = json.loads((folder / "info.player.json").read_bytes())
    del info["written_by"]
    (folder / "info.player.json").write_text(json.dumps(info))
    with av.open(folder / "audio.mp4", "w") as container:
        stream = container.add_stream("aac", 44_100, layout="mono")
        tone = (20_000 * np.sin(np.arange(44_100) / 15)).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
        sound.sample_rate = 44_100
        for packet in (*stream.encode(sound), *stream.encode(None)):
            container.mux(packet)
    count = len(demuxed(folder / "audio.mp4"))
    np.save(folder / "audio_timestamps.npy", 100 + np.arange(count) * 1024 / 44_100)
    assert verify(folder).problems == []
    blocks = list(Recording(folder).sound())
    assert count - 2 <= len(blocks) <= count
    assert {(block.samples.shape[1], block.rate) for block in blocks} == {(1, 44_100)}
    assert max(int(block.samples.max()) for block in blocks) > 15_000
