"""Frames and sound in: sources, and the camera process."""
