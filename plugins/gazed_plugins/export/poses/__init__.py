"""Pupils and gaze as poses, in the layout of ``movement`` and in the formats that it reads."""

__all__: list[str] = []
