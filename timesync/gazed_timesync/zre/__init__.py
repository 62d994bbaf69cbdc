"""Discovery and messages on the local network, as pyre speaks them (ZRE)."""

__all__: list[str] = []
