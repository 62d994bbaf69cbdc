"""Pupil Player's export: its tables, and the videos as they were recorded."""

__all__: list[str] = []
