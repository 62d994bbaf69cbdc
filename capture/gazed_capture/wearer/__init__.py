"""The wearer: a rendered head whose eyes look at a rendered target, with the truth of every frame.

``script`` says what happens, ``rig`` where everything is, ``optics`` what a camera sees of an eye; ``eye`` and
``world`` paint it, ``bank`` keeps the pictures, ``truth`` answers what a frame shows. ``gazed_capture.simulated``
replays it.
"""

__all__: list[str] = []
