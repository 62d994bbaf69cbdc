"""Arguments of plugins, and values from the bus, that no plugin should be given."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gazed_bus.codec import Message
from gazed_plugins.arguments import is_number, is_vector, read_numbers, refuse_unknown, shown
from gazed_plugins.errors import PluginArgument, PluginError
from gazed_plugins.images import gray_image
from gazed_plugins.pupil.settings import PupilSettings


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [1, -2.5, np.float64(3), 10**300])
def test_these_are_numbers(value: object) -> None:
    assert is_number(value)
    assert is_vector([value, 0], 2)
    assert not is_vector([value], 2)


@pytest.mark.parametrize("value", [True, "1", None, [1], math.nan, math.inf, -math.inf, 10**400, -(10**400)])
def test_these_are_none(value: object) -> None:
    assert not is_number(value)
    assert not is_vector((0, value), 2)


def test_numbers_are_read_within_their_range() -> None:
    known = {"length": (1.0, 0.5, 2.0), "width": (3.0, 0.0, 9.0)}
    assert read_numbers("P", {"length": 2, "name": "x"}, known, "name") == {"length": 2.0, "width": 3.0}
    for wrong in (0.4, 2.1, "1", 10**400):
        with pytest.raises(PluginArgument, match=r"P: length is a number from 0\.5 to 2, got"):
            read_numbers("P", {"length": wrong}, known)


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    for known, hint in (([], "it takes: none"), (["format"], "did you mean format?"), (["x", "y"], "it takes: x, y")):
        with pytest.raises(PluginArgument, match="P has no argument 'fromat'") as refusal:
            refuse_unknown("P", "argument", {"fromat": 1}, known)
        assert refusal.value.hint == hint


@given(st.recursive(st.none() | st.text() | st.binary() | st.floats() | st.integers(), st.lists))
def test_whatever_is_shown_is_short(value: object) -> None:
    assert len(shown(value)) <= 100


def test_what_repr_cannot_show_is_refused_all_the_same() -> None:
    deep = nested(100_000)
    assert shown([5, 5, 5, 9]) == "[5, 5, 5, 9]"
    for values in ({"roi": deep}, {"properties": deep}, {"gate": deep}, {"every_nth": deep}, {"every_nth": 10**400}):
        with pytest.raises(PluginArgument, match="got"):
            PupilSettings.of(values)
    with pytest.raises(PluginError, match=r"no .* image"):
        gray_image(Message("frame.world", {"format": deep, "width": deep, "height": 1}, (b"x",)))
