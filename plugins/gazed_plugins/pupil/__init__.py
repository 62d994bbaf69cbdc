"""Pupil detection: the engines, the blink gate before them, the live plugin, and detection in recordings."""

__all__: list[str] = []
