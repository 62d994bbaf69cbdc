"""A dataset of the Brain Imaging Data Structure."""

__all__: list[str] = []
