"""gazed: live capture and recording for eye trackers.

The public face::

    with gazed.Remote() as remote:          # talk to a running daemon
        remote.start("session name")
    recording = gazed.Recording(folder)     # open what it wrote
    gazed.export_recording(folder, "csv")   # hand it on

Names are imported when they are first used, so that ``import gazed`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from gazed_timesync import GazedError

if TYPE_CHECKING:
    from gazed.samples import fetch_sample
    from gazed_bus.errors import NotGazed, NotReachable, RemoteError, RequestRefused
    from gazed_bus.remote import Remote
    from gazed_plugins.export.batch import export_many
    from gazed_plugins.export.run import export_recording
    from gazed_plugins.query import query
    from gazed_recorder.errors import NotARecording, RecorderError
    from gazed_recorder.reader import Recording

__all__ = [
    "GazedError",
    "NotARecording",
    "NotGazed",
    "NotReachable",
    "RecorderError",
    "Recording",
    "Remote",
    "RemoteError",
    "RequestRefused",
    "__version__",
    "export_many",
    "export_recording",
    "fetch_sample",
    "query",
]

_HOMES = {
    "NotARecording": "gazed_recorder.errors",
    "NotGazed": "gazed_bus.errors",
    "NotReachable": "gazed_bus.errors",
    "Recording": "gazed_recorder.reader",
    "RecorderError": "gazed_recorder.errors",
    "Remote": "gazed_bus.remote",
    "RemoteError": "gazed_bus.errors",
    "RequestRefused": "gazed_bus.errors",
    "export_many": "gazed_plugins.export.batch",
    "export_recording": "gazed_plugins.export.run",
    "fetch_sample": "gazed.samples",
    "query": "gazed_plugins.query",
}

try:
    __version__ = version("gazed")
except PackageNotFoundError:  # run from an unpacked archive that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'gazed' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
