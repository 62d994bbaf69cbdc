"""Videos with each frame at its time, copied or encoded anew."""

__all__: list[str] = []
