"""The recording folder: written, verified, repaired and read."""
