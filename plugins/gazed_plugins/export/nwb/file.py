"""An NWB file whose bytes depend on what is in it alone.

pynwb gives every object a random id, takes the present for the date of the file, and stores the schema of every
extension that the process has loaded. Here ids are UUIDs of version 5 of the recording's and the object's path, and the
schemas are those that the file needs.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gazed_plugins.export.events import clean_text
from gazed_plugins.export.hdf5 import writing_hdf5
from gazed_recorder.reader import Recording

__all__ = ["uuid_of", "written_nwb"]

_NAMESPACES = ("core", "hdmf-common", "hdmf-experimental", "ndx-pose")
# Of each dataset: what is the largest chunk, and a little.
_CACHE = 1 << 18
_IDS = uuid.UUID("6f3c3d0a-52e1-5b0e-9a0c-0f6f0f7f2b7d")


def uuid_of(recording: Recording) -> uuid.UUID:
    """Return the UUID of a recording; of one that has none, one made of its name and its times."""
    info = recording.info
    try:
        return uuid.UUID(info.recording_uuid)
    except ValueError:
        known = (info.recording_uuid, info.recording_name, info.start_time_system_s, info.start_time_synced_s)
        return uuid.uuid5(_IDS, clean_text(repr(known)))


@contextmanager
def written_nwb(path: Path, content: Any, ids: uuid.UUID) -> Iterator[None]:
    """Write an ``NWBFile``, and keep it open while the block fills what was left empty.

    Data that were given as an ``H5DataIO`` with a shape only have a ``dataset`` meanwhile. Ids are made of ``ids``.

    Raises:
        OSError: the file cannot be written.
    """
    import h5py
    from pynwb import NWBHDF5IO

    class StableIO(NWBHDF5IO):  # type: ignore[misc]
        def write_builder(self, builder: Any, **options: Any) -> None:
            _give_ids(builder, ids)
            super().write_builder(builder, **options)

    with writing_hdf5(path) as stream:
        try:
            with h5py.File(stream, "w", rdcc_nbytes=_CACHE) as file, StableIO(file=file, mode="w") as writer:
                writer.write(content, cache_spec=False)
                _write_schemas(file, writer.manager.namespace_catalog)
                yield
        except Exception as error:
            # hdmf wraps what HDF5 raises; the file knows whether it was the disk.
            if type(error) is Exception and error.__cause__ is not None:
                raise error.__cause__ from None
            raise


def _write_schemas(file: Any, catalog: Any) -> None:
    """Store the schemas as pynwb does: a group for each name and version, to which the attribute ``.specloc`` leads."""
    from hdmf.backends.hdf5.h5_utils import H5SpecWriter
    from hdmf.backends.utils import NamespaceToBuilderHelper

    place = file.create_group("specifications")
    file.attrs[".specloc"] = place.ref
    for name in _NAMESPACES:
        group = place.create_group(f"{name}/{catalog.get_namespace(name).version}")
        NamespaceToBuilderHelper.convert_namespace(catalog, name).export("namespace", writer=H5SpecWriter(group))


def _give_ids(builder: Any, ids: uuid.UUID) -> None:
    if "object_id" in builder.attributes:
        builder.set_attribute("object_id", str(uuid.uuid5(ids, builder.path)))
    for part in ("groups", "datasets"):
        for each in getattr(builder, part, {}).values():
            _give_ids(each, ids)
