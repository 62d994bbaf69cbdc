"""A session in one file of Neurodata Without Borders."""

__all__: list[str] = []
