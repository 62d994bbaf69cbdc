"""What can be set about the detection in one eye, checked.

Names and defaults of ``Properties2D`` are the 2D engine's own, misspelt ones included: Pupil's clients send them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gazed_plugins.arguments import is_number, refuse_unknown, shown
from gazed_plugins.errors import PluginArgument

__all__ = ["CAMERA_ARGUMENTS", "PROPERTY_NAMES_3D", "Properties2D", "PupilSettings"]

CAMERA_ARGUMENTS = ("camera", "intrinsics", "focal_length")
"""What ``Pupil_Detector`` may be told of the eye's camera, beside the settings."""
PROPERTY_NAMES_3D = ("is_long_term_model_frozen",)
# Beyond these the 2D engine ends the process, or does not return.
_RANGES_2D = {"blur_size": (0, 99), "contour_size_min": (1, 4096)}
_RANGE_2D = (0, 4096)


@dataclass(frozen=True, slots=True)
class Properties2D:
    """Properties of the 2D engine (lengths in px, intensities in gray levels)."""

    coarse_detection: bool = True
    coarse_filter_min: int = 128
    coarse_filter_max: int = 280
    intensity_range: int = 23
    blur_size: int = 5
    canny_treshold: int = 160
    canny_ration: int = 2
    canny_aperture: int = 5
    pupil_size_max: int = 100
    pupil_size_min: int = 10
    strong_perimeter_ratio_range_min: float = 0.8
    strong_perimeter_ratio_range_max: float = 1.1
    strong_area_ratio_range_min: float = 0.6
    strong_area_ratio_range_max: float = 1.1
    contour_size_min: int = 5
    ellipse_roundness_ratio: float = 0.1
    initial_ellipse_fit_treshhold: float = 1.8
    final_perimeter_ratio_range_min: float = 0.6
    final_perimeter_ratio_range_max: float = 1.2
    ellipse_true_support_min_dist: float = 2.5
    support_pixel_ratio_exponent: float = 2.0

    def updated(self, values: Mapping[str, Any]) -> Properties2D:
        """Return the properties with ``values`` in place of some.

        Raises:
            PluginArgument: a name is unknown, or a value is not of its kind.
        """
        refuse_unknown("the 2D detector", "property", values, [each.name for each in fields(self)])
        mine = asdict(self)
        new = replace(self, **{name: _like(mine[name], name, value) for name, value in values.items()})
        for name, value in values.items():
            low, high = _RANGES_2D.get(name, _RANGE_2D)
            if not low <= value <= high:
                raise PluginArgument(f"{name} is from {low} to {high}, got {value}")
        if new.canny_aperture not in (3, 5, 7):
            raise PluginArgument(f"canny_aperture is 3, 5 or 7, got {new.canny_aperture}")
        if new.blur_size > 1 and new.blur_size % 2 == 0:
            raise PluginArgument(f"blur_size is 0 or an odd number, got {new.blur_size}")
        return new

    def as_dict(self) -> dict[str, Any]:
        """Return name and value of every property."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PupilSettings:
    """Settings of one eye."""

    detect_2d: bool = True
    detect_3d: bool = True
    """The 3D model needs what the 2D engine finds."""
    gate: bool = True
    """Whether frames in which a lid covers the pupil are kept from the 3D model, and their confidence is lowered."""
    every_nth: int = 1
    """Only every n-th frame is looked at."""
    roi: tuple[int, int, int, int] | None = None
    """Part of the image that is searched, as min x, min y, max x, max y in px; ``None`` is all of it."""
    is_long_term_model_frozen: bool = False
    properties: Properties2D = Properties2D()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PupilSettings:
        """Return the settings that a map of plain values describes; ``properties`` in it is again a map.

        Raises:
            PluginArgument: a name is unknown, or a value is out of range.
        """
        return cls().updated(values)

    def updated(self, values: Mapping[str, Any]) -> PupilSettings:
        """Return the settings with ``values`` in place of some.

        Raises:
            PluginArgument: as ``of``.
        """
        refuse_unknown("Pupil_Detector", "argument", values, [each.name for each in fields(self)])
        new: dict[str, Any] = {}
        for name, value in values.items():
            if name == "roi":
                new[name] = _roi(value)
            elif name == "properties":
                if not isinstance(value, Mapping):
                    raise PluginArgument(f"properties is a map of names to values, got {shown(value)}")
                new[name] = self.properties.updated(value)
            else:
                new[name] = _like(getattr(self, name), name, value)
        if new.get("every_nth", 1) < 1:
            raise PluginArgument(f"every_nth is 1 or more, got {new['every_nth']}")
        return replace(self, **new)

    def check_roi(self, resolution: tuple[int, int]) -> None:
        """Make sure that the ROI lies inside images of ``resolution`` (width, height).

        Raises:
            PluginArgument: it does not.
        """
        if self.roi is not None and (self.roi[2] >= resolution[0] or self.roi[3] > resolution[1]):
            raise PluginArgument(f"roi {list(self.roi)} reaches out of an image of {resolution[0]}x{resolution[1]} px")


def _roi(value: Any) -> tuple[int, int, int, int] | None:
    if value is None:
        return None
    numbers = list(value) if isinstance(value, list | tuple) else []
    if len(numbers) == 4 and all(type(number) is int for number in numbers):
        left, top, right, bottom = numbers
        if 0 <= left < right and 0 <= top < bottom:
            return left, top, right, bottom
    raise PluginArgument(f"roi is [min x, min y, max x, max y] in px with 0 <= min < max, got {shown(value)}")


def _like(default: Any, name: str, value: Any) -> Any:
    """Return ``value`` in the type of ``default``: true or false, a whole number, or a number; none is negative."""
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise PluginArgument(f"{name} is true or false, got {shown(value)}")
    if is_number(value) and value >= 0:
        if isinstance(default, float):
            return float(value)
        if value == int(value) and value < 1 << 31:
            return int(value)
    wanted = "a number" if isinstance(default, float) else "a whole number"
    raise PluginArgument(f"{name} is {wanted} of 0 or more, got {shown(value)}")
