"""The gray image in a frame from the bus, or in the JPEG of a recording."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gazed_bus.codec import Message
from gazed_plugins.errors import PluginError

__all__ = ["gray_image", "gray_jpeg"]


def gray_jpeg(jpeg: bytes) -> NDArray[np.uint8]:
    """Return the brightness in a JPEG, uint8 of shape (height, width); its colours are not decoded.

    Raises:
        PluginError: it is no JPEG, or a damaged one.
    """
    # An image is never turned by what a camera wrote into its EXIF: coordinates would no longer fit.
    mode = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), mode) if jpeg else None
    if image is None:
        raise PluginError(f"{len(jpeg)} bytes that are no JPEG")
    return np.asarray(image, np.uint8)


def gray_image(message: Message) -> NDArray[np.uint8]:
    """Return the brightness in a ``frame.*`` message, uint8 of shape (height, width), of any of Pupil's formats.

    Raises:
        PluginError: there is no image of that size and format in it.
        KeyError: the map lacks width, height or format.
    """
    kind, width, height = (message.payload[name] for name in ("format", "width", "height"))
    data = message.raw[0] if message.raw else b""
    if kind == "jpeg":
        image = gray_jpeg(data)
        if image.shape != (height, width):
            raise PluginError(f"wanted an image of {width}x{height} px, found {image.shape[1]}x{image.shape[0]}")
        return image
    pixels = width * height if type(width) is int and type(height) is int and width > 0 and height > 0 else 0
    samples = np.frombuffer(data, np.uint8)
    # Planar YUV begins with the brightness; how the colours behind it are sampled is not told.
    if pixels and ((kind == "gray" and samples.size == pixels) or (kind == "yuv" and samples.size >= pixels)):
        return samples[:pixels].reshape(height, width)
    if pixels and kind == "bgr" and samples.size == 3 * pixels:
        return np.asarray(cv2.cvtColor(samples.reshape(height, width, 3), cv2.COLOR_BGR2GRAY), np.uint8)
    raise PluginError(f"{samples.size} bytes are no {kind!r:.20} image of {width!r:.20}x{height!r:.20} px")
