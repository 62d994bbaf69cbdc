"""What was found, drawn into the images: where the wearer looks, and the pupil in the eye.

Drawn is what is of a frame by time: gaze as circles, the 2D pupil as a green ellipse and the 3D one as a blue ellipse.
What is less sure than 0.6 is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_plugins.export.video.encode import Draw
from gazed_recorder.reader import Recording
from gazed_recorder.reading.logs import empty_table
from gazed_recorder.reading.table import Table
from gazed_recorder.reading.video import RecordedFrame, Video

__all__ = ["overlay"]

_SURE = 0.6
_GAZE, _EDGE, _FLAT, _SOLID = (60, 60, 230), (255, 255, 255), (90, 220, 90), (230, 160, 60)
_BITS = 4  # OpenCV draws at this fraction of a pixel, 1/16
_ELLIPSE = ("ellipse_center_x", "ellipse_center_y", "ellipse_axis_a", "ellipse_axis_b", "ellipse_angle")

Image = NDArray[np.uint8]
Shape = Sequence[float]
_DrawShape = Callable[[Image, Shape], None]


def overlay(recording: Recording, video: Video) -> Draw:
    """Return what draws into the frames of a video; of the world the gaze, of an eye its pupils.

    Raises:
        DamagedFile: gaze or pupils cannot be read.
    """
    if video.name == "world":
        shapes = _Shapes(_columns(recording, "gaze", ("norm_pos_x", "norm_pos_y")), video)
        return lambda frame: _drawn(frame, shapes, _draw_gaze)
    eye = int(video.name.removeprefix("eye"))
    pupils = _columns(recording, "pupil", ("eye_id", "method", *_ELLIPSE))
    solid = np.array(["3d" in (method or "") for method in pupils["method"]], np.float64)
    mine = pupils["eye_id"] == eye
    shapes = _Shapes(pupils.select(("timestamp", *_ELLIPSE)).with_columns(solid=solid)[mine], video)
    return lambda frame: _drawn(frame, shapes, _draw_pupil)


class _Shapes:
    """Rows of numbers, by the frame that they belong to."""

    def __init__(self, table: Table, video: Video) -> None:
        names = [name for name in table.columns if name != "timestamp"]
        rows = np.column_stack([table[name] for name in names]) if names else np.zeros((0, 0))
        index = video.nearest(table["timestamp"]) if len(video) else np.zeros(0, np.int64)
        known = np.isfinite(rows).all(axis=1)
        self._rows, self._index = rows[known], index[known]

    def of(self, frame: int) -> Sequence[Shape]:
        """Return the rows of a frame, in the order of time."""
        first, last = np.searchsorted(self._index, [frame, frame + 1])
        rows: list[list[float]] = self._rows[first:last].tolist()
        return rows


def _columns(recording: Recording, log: str, names: Sequence[str]) -> Table:
    """Return columns of what is sure enough, in the order of time."""
    wanted = ("timestamp", *names)
    batches = recording.batches(log) if log in recording.logs else iter(())
    sure = [batch[batch["confidence"] >= _SURE].select(wanted) for batch in batches]
    return Table.concatenated([empty_table(log).select(wanted), *sure])


def _drawn(frame: RecordedFrame, shapes: _Shapes, draw: _DrawShape) -> av.VideoFrame:
    image = frame.bgr
    for shape in shapes.of(frame.index):
        draw(image, shape)
    return av.VideoFrame.from_ndarray(image, format="bgr24")


def _draw_gaze(image: Image, shape: Shape) -> None:
    height, width = image.shape[:2]
    x, y = shape
    # Gaze may be far outside of the image, where OpenCV has no numbers for it.
    if not (-1 < x < 2 and -1 < y < 2):
        return
    center = _fixed(x * width), _fixed((1 - y) * height)
    radius = max(3.0, height / 30)
    for color, thick in ((_EDGE, 5), (_GAZE, 3)):
        cv2.circle(image, center, _fixed(radius), color, max(1, thick * height // 720), cv2.LINE_AA, _BITS)


def _draw_pupil(image: Image, shape: Shape) -> None:
    height, width = image.shape[:2]
    x, y, a, b, angle, solid = shape
    if not (-width < x < 2 * width and -height < y < 2 * height and 0 < a < 2 * width and 0 < b < 2 * width):
        return
    axes = _fixed(a / 2), _fixed(b / 2)
    color = _SOLID if solid else _FLAT
    cv2.ellipse(image, (_fixed(x), _fixed(y)), axes, angle, 0, 360, color, 1, cv2.LINE_AA, _BITS)


def _fixed(value: float) -> int:
    return round(value * (1 << _BITS))
