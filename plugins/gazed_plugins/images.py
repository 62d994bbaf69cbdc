"""The image in a frame from the bus, or in a JPEG; with OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_bus.codec import Message
from gazed_plugins.arguments import is_number, shown
from gazed_plugins.errors import PluginError

__all__ = ["bgr_jpeg", "gray_image", "gray_jpeg", "read_frame"]


def bgr_jpeg(jpeg: bytes) -> NDArray[np.uint8]:
    """Return the image in a JPEG, uint8 of shape (height, width, 3), channels blue, green, red.

    Raises:
        PluginError: it is no JPEG, or a damaged one.
    """
    return _decode(jpeg, cv2.IMREAD_COLOR)


def gray_jpeg(jpeg: bytes) -> NDArray[np.uint8]:
    """Return the brightness in a JPEG, uint8 of shape (height, width); its colours are not decoded.

    Raises:
        PluginError: it is no JPEG, or a damaged one.
    """
    return _decode(jpeg, cv2.IMREAD_GRAYSCALE)


def _decode(jpeg: bytes, mode: int) -> NDArray[np.uint8]:
    # An image is never turned by what a camera wrote into its EXIF: coordinates would no longer fit.
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), mode | cv2.IMREAD_IGNORE_ORIENTATION) if jpeg else None
    if image is None:
        raise PluginError(f"{len(jpeg)} bytes that are no JPEG, or a damaged one")
    return np.asarray(image, np.uint8)


def gray_image(message: Message) -> NDArray[np.uint8]:
    """Return the brightness in a ``frame.*`` message, uint8 of shape (height, width), of any of Pupil's formats.

    Raises:
        PluginError: there is no image of the size and format in it that it tells of.
    """
    kind, width, height = (message.payload.get(name) for name in ("format", "width", "height"))
    data = message.raw[0] if message.raw else b""
    if kind == "jpeg":
        image = gray_jpeg(data)
        if image.shape != (height, width):
            raise PluginError(
                f"wanted an image of {shown(width)}x{shown(height)} px, found {image.shape[1]}x{image.shape[0]}"
            )
        return image
    if type(width) is int and type(height) is int and width > 0 and height > 0:
        pixels, samples = width * height, np.frombuffer(data, np.uint8)
        # Planar YUV begins with the brightness; how the colours behind it are sampled is not told.
        if (kind == "gray" and samples.size == pixels) or (kind == "yuv" and samples.size >= pixels):
            return samples[:pixels].reshape(height, width)
        if kind == "bgr" and samples.size == 3 * pixels:
            return np.asarray(cv2.cvtColor(samples.reshape(height, width, 3), cv2.COLOR_BGR2GRAY), np.uint8)
    raise PluginError(f"{len(data)} bytes are no {shown(kind)} image of {shown(width)}x{shown(height)} px")


def read_frame(message: Message) -> tuple[NDArray[np.uint8], float]:
    """Return the brightness in a ``frame.*`` message, as ``gray_image``, and its Pupil time in seconds.

    Raises:
        PluginError: as ``gray_image``, or it has no timestamp.
    """
    stamp = message.payload.get("timestamp")
    if not is_number(stamp):
        raise PluginError(f"an image has a timestamp that is a number, found {shown(stamp)}")
    return gray_image(message), float(stamp)
