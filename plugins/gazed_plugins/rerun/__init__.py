"""Rerun: recordings as ``.rrd`` files, a running daemon in a viewer, and a viewer that speaks with nobody else."""

__all__: list[str] = []
