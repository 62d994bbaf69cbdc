"""A leader's time, and keeping a clock to it: Pupil Time Sync, and our own way between our own."""

__all__: list[str] = []
