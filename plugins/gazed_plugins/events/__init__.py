"""What eyes do over time: blinks and fixations, found live and afterwards."""

__all__: list[str] = []
