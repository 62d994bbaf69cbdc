"""From the times of cameras and sound cards to host time."""

__all__: list[str] = []
