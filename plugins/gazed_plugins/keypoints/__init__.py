"""Taking in what pose estimation has tracked: keypoints on the edge of a pupil become pupils of a recording."""

__all__: list[str] = []
