"""Gaze: from pupils and reference positions to where the wearer looks, without a bus or a process."""

__all__: list[str] = []
