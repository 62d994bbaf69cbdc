"""Reading recordings: what ``Recording`` is made of."""

__all__: list[str] = []
