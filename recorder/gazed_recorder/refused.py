"""Why a frame cannot be written: what ``write`` of a part raises, with the file as it was before.

::

    RecorderError
    └── FrameRefused
        ├── NotIncreasing   its time is not after that of the frame before
        ├── GapTooLong      an mp4 cannot express the time since the frame before: begin a new part
        ├── NotAnImage      the payload is no image, or not one that the file can hold
        ├── NotSound        the payload is no sound, or not such as the file can hold
        └── EncoderBehind   frames come faster than they can be encoded

``code`` is the reason under which the frame is counted as dropped.
"""

from __future__ import annotations

from gazed_recorder.errors import RecorderError

__all__ = ["EncoderBehind", "FrameRefused", "GapTooLong", "NotAnImage", "NotIncreasing", "NotSound"]


class FrameRefused(RecorderError):
    """A frame cannot go into this file; the next one may."""

    code = "frame-refused"


class NotIncreasing(FrameRefused):
    """The time of a frame is not after that of the frame before."""

    code = "not-increasing"


class GapTooLong(FrameRefused):
    """The time since the frame before is longer than an mp4 can express."""

    code = "gap-too-long"


class NotAnImage(FrameRefused):
    """The payload is damaged, or an image of another size."""

    code = "corrupt"


class NotSound(FrameRefused):
    """The payload is no block of sound, or one of another length."""

    code = "corrupt"


class EncoderBehind(FrameRefused):
    """The queue of the encoder is full."""

    code = "encoder-behind"
