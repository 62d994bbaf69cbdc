"""Blocks of sound come without gaps and at the right time, whatever the sound system loses, and whenever."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gazed_bus.frame import Frame
from gazed_capture.errors import DeviceLost
from gazed_capture.sound import BLOCK, Blocks, Chunk
from gazed_timesync import HostNs

RATE = 48_000
MS = 1_000_000
START_NS = 7_000_000_000


class Card:
    """A sound card on a clock of its own, whose samples are their own numbers (of 16 bits)."""

    def __init__(self, *, ppm: float = 0.0, noise_ms: float = 0.5, channels: int = 1) -> None:
        self.rate = RATE * (1 + ppm * 1e-6)
        self.taken = self.counted = 0
        self._noise_ms = noise_ms
        self._channels = channels
        self._random = random.Random(1)

    def time_of(self, sample: int) -> float:
        return START_NS + sample / self.rate * 1e9

    def lose(self, samples: int, *, told: bool = False) -> None:
        self.taken += samples
        self.counted += samples if told else 0

    def chunk(self, size: int = BLOCK, *, overflowed: bool = False, off_ms: float = 0.0) -> Chunk:
        numbers = np.arange(self.taken, self.taken + size).astype("<i2")
        adc = self.time_of(self.taken) + self._random.gauss(0, self._noise_ms) * MS + off_ms * MS
        chunk = Chunk(
            first=self.counted,
            data=np.repeat(numbers, self._channels).tobytes(),
            device_s=self.taken / RATE,
            adc_ns=HostNs(round(adc)),
            arrived_ns=HostNs(round(self.time_of(self.taken + size) + 20 * MS)),
            overflowed=overflowed,
        )
        self.taken += size
        self.counted += size
        return chunk

    def error_ms(self, frame: Frame) -> float:
        """Return by how much the frame is off about when its last sample that is no silence was taken."""
        samples = np.frombuffer(frame.payload, "<i2")[:: self._channels]
        index = int(np.flatnonzero(samples)[-1])
        number = int(samples[index]) & 0xFFFF
        at = frame.captured_ns + index / self.rate * 1e9
        laps = round(((at - START_NS) * self.rate / 1e9 - number) / 65536)
        return (at - self.time_of(number + laps * 65536)) / MS


def drain(blocks: Blocks) -> Iterator[Frame]:
    while (frame := blocks.take()) is not None:
        yield frame


def feed(blocks: Blocks, card: Card, seconds: float, size: int = BLOCK) -> list[Frame]:
    frames = []
    for _ in range(round(seconds * RATE / size)):
        blocks.add(card.chunk(size))
        frames += drain(blocks)
    return frames


def check(frames: list[Frame]) -> None:
    """Hold the frames against what is true of all sound, lost or not."""
    assert [frame.sequence for frame in frames] == list(range(len(frames)))
    assert (np.diff([frame.captured_ns for frame in frames]) > 0).all()
    for frame in frames:
        assert len(frame.payload) == 2 * frame.width * frame.height
        assert frame.captured_ns <= frame.host_ns


@pytest.mark.parametrize("ppm", [-150, 0, 100])
@pytest.mark.parametrize("size", [480, 1024, 2400])
def test_blocks_are_stamped_when_their_first_sample_was_taken(ppm: float, size: int) -> None:
    card = Card(ppm=ppm, channels=2)
    blocks = Blocks("audio", RATE, 2)
    frames = feed(blocks, card, 20, size)
    check(frames)
    assert blocks.missed == 0
    errors = [abs(card.error_ms(frame)) for frame in frames]
    assert max(errors) < 2
    assert max(errors[200:]) < 0.5
    assert np.array_equal(
        np.frombuffer(b"".join(frame.payload for frame in frames), "<i2")[::2],
        np.arange(len(frames) * BLOCK).astype("<i2"),
    )
    assert [frame.device_time for frame in frames] == pytest.approx([k * BLOCK / RATE for k in range(len(frames))])


@pytest.mark.parametrize("minutes", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_a_card_off_by_100_ppm_stays_with_the_host(minutes: int) -> None:
    card = Card(ppm=100, noise_ms=1)
    blocks = Blocks("audio", RATE, 1)
    frames = feed(blocks, card, minutes * 60)
    errors = [abs(card.error_ms(frame)) for frame in frames]
    assert max(errors) < 5
    assert errors[-1] < 1
    assert blocks.missed == 0
    assert blocks.skew_ppm == pytest.approx(-100, abs=5)


@pytest.mark.parametrize("lost_ms", [25, 180, 1000, 5000])
@pytest.mark.parametrize("told", [True, False])
def test_lost_samples_become_silence(lost_ms: int, told: bool) -> None:
    card = Card(ppm=50)
    blocks = Blocks("audio", RATE, 1)
    frames = feed(blocks, card, 5)
    card.lose(lost_ms * RATE // 1000, told=told)
    frames += feed(blocks, card, 5)
    check(frames)
    assert blocks.missed == pytest.approx(lost_ms * RATE / 1000 / BLOCK, abs=2)
    assert [frame.device_time for frame in frames].count(None) == blocks.missed
    heard = [frame for frame in frames if any(frame.payload)]
    assert max(abs(card.error_ms(frame)) for frame in heard) < 3
    silence = sum(np.frombuffer(frame.payload, "<i2") == 0 for frame in frames).sum()
    assert silence == pytest.approx(lost_ms * RATE / 1000, abs=RATE * 3e-3 + 10)


def test_samples_lost_in_pieces_are_all_replaced() -> None:
    card = Card()
    blocks = Blocks("audio", RATE, 1)
    frames = feed(blocks, card, 3)
    for _ in range(3):
        frames += feed(blocks, card, 0.07)
        card.lose(RATE * 66 // 1000)
    frames += feed(blocks, card, 5)
    check(frames)
    assert abs(card.error_ms(frames[-1])) < 2
    assert blocks.missed == pytest.approx(3 * 0.066 * RATE / BLOCK, abs=6)


def test_few_samples_are_missed_only_if_the_sound_system_says_so() -> None:
    lost = RATE * 12 // 1000
    for told, wanted in ((False, 0), (True, 1)):
        card = Card()
        blocks = Blocks("audio", RATE, 1)
        frames = feed(blocks, card, 3)
        card.lose(lost)
        blocks.add(card.chunk(overflowed=told))
        frames += feed(blocks, card, 20)
        check(frames)
        assert bool(blocks.missed) == bool(wanted)
        # What was too little to be told from noise is caught up with in time.
        assert abs(card.error_ms(frames[-1])) < 1


def test_stamps_that_are_late_for_a_while_cost_nothing() -> None:
    card = Card()
    blocks = Blocks("audio", RATE, 1)
    frames = feed(blocks, card, 3)
    for off_ms in (300, 250, 200, 150, 100, 50):
        blocks.add(card.chunk(off_ms=off_ms))
    frames += feed(blocks, card, 3)
    check(frames)
    assert blocks.missed == 0
    assert max(abs(card.error_ms(frame)) for frame in frames) < 2


@pytest.mark.parametrize("off_ms", [400, -400])
def test_wrong_stamps_at_the_start_cost_nothing(off_ms: int) -> None:
    card = Card()
    blocks = Blocks("audio", RATE, 1)
    frames = []
    for step in range(70):
        blocks.add(card.chunk(off_ms=off_ms * max(0, 1 - step / 60)))
        frames += drain(blocks)
    frames += feed(blocks, card, 5)
    check(frames)
    assert blocks.missed == 0
    assert max(abs(card.error_ms(frame)) for frame in frames) < 5


def test_stamps_that_never_agree_are_used_as_they_are() -> None:
    card = Card(noise_ms=15)
    frames = feed(Blocks("audio", RATE, 1), card, 10)
    check(frames)
    assert len(frames) > 400


def test_a_device_that_stood_still_is_lost() -> None:
    card = Card()
    blocks = Blocks("audio", RATE, 1)
    feed(blocks, card, 1)
    card.lose(11 * RATE)
    with pytest.raises(DeviceLost, match=r"11\.0 s"):
        feed(blocks, card, 1)


def test_a_constant_latency_is_taken_off() -> None:
    plain, shifted = (
        feed(Blocks("audio", RATE, 1, latency_s=latency_s), Card(), 2)[-1].captured_ns for latency_s in (0.0, 0.03)
    )
    assert plain - shifted == 30 * MS


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 5000), st.integers(0, 20_000), st.booleans(), st.floats(-500, 500), st.booleans()),
        max_size=60,
    )
)
def test_whatever_comes_blocks_are_whole_in_order_and_never_from_the_future(
    steps: list[tuple[int, int, bool, float, bool]],
) -> None:
    card = Card()
    blocks = Blocks("audio", RATE, 1)
    frames = feed(blocks, card, 1)
    for size, lost, told, off_ms, overflowed in steps:
        card.lose(lost, told=told)
        try:
            blocks.add(card.chunk(size, off_ms=off_ms, overflowed=overflowed))
        except DeviceLost:
            break
        frames += drain(blocks)
    check(frames)
    assert blocks.missed == [frame.device_time for frame in frames].count(None)
