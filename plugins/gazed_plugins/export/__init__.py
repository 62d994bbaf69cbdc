"""Getting data out: one file an exporter, all behind one protocol."""

__all__: list[str] = []
