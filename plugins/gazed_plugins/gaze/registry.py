"""Gazers by the class names that Pupil's notifications and stored calibrations carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from gazed_plugins.gaze.camera import Camera
from gazed_plugins.gaze.errors import UnknownGazer
from gazed_plugins.gaze.gazer import Gazer
from gazed_plugins.gaze.gazer2d import Gazer2D
from gazed_plugins.gaze.gazer3d import Gazer3D
from gazed_plugins.gaze.gazer_hmd import GazerHMD3D

__all__ = ["GAZERS", "load_gazer", "make_gazer"]

GAZERS: dict[str, type[Gazer]] = {gazer.__name__: gazer for gazer in (Gazer2D, Gazer3D, GazerHMD3D)}


def make_gazer(name: str, camera: Camera | None, eye_translations: ArrayLike | None = None) -> Gazer:
    """Return a gazer that can be fitted; only ``GazerHMD3D`` wants ``eye_translations`` and works without a camera.

    Raises:
        UnknownGazer: there is no gazer of this name, or it cannot work without a camera.
    """
    if name not in GAZERS:
        raise UnknownGazer(f"there is no gazer {name!r}", hint=f"use one of {', '.join(GAZERS)}")
    if name == GazerHMD3D.__name__:
        return GazerHMD3D(camera, eye_translations)
    if camera is None:
        raise UnknownGazer(f"{name} needs a world camera", hint=f"without one, use {GazerHMD3D.__name__}")
    return GAZERS[name](camera)


def load_gazer(name: str, params: Mapping[str, Mapping[str, Any]], camera: Camera | None) -> Gazer:
    """Return a gazer with the parameters of an earlier calibration, ready to map.

    Raises:
        UnknownGazer: there is no gazer of this name, or the parameters are not its.
    """
    gazer = make_gazer(name, camera)
    gazer.load(params)
    return gazer
