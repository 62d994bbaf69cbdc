"""Circle markers in the images of the world camera."""

__all__: list[str] = []
