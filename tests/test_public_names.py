"""The public names of the six packages: listed, there, and nothing else stands beside them."""

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

PACKAGES = ["gazed_timesync", "gazed_bus", "gazed_capture", "gazed_recorder", "gazed_plugins", "gazed"]

FACE = [
    "GazedError",
    "NotARecording",
    "NotGazed",
    "NotReachable",
    "Recording",
    "RecorderError",
    "Remote",
    "RemoteError",
    "RequestRefused",
    "__version__",
    "export_many",
    "export_recording",
    "fetch_sample",
    "query",
]


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_what_a_package_exports(name):
    package = importlib.import_module(name)
    listed = getattr(package, "__all__", [])
    assert sorted(set(listed)) == sorted(listed)
    for entry in listed:
        assert getattr(package, entry) is not None
    others = {
        entry
        for entry, value in vars(package).items()
        if not entry.startswith("_") and not isinstance(value, ModuleType) and entry != "annotations"
    }
    helpers = {"import_module", "version", "PackageNotFoundError", "TYPE_CHECKING"}
    assert others - helpers <= set(listed)


@pytest.mark.parametrize("name", PACKAGES)
def test_every_module_lists_its_public_names(name):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, f"{name}."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        assert hasattr(loaded, "__all__"), module.name
        assert [entry for entry in loaded.__all__ if not hasattr(loaded, entry)] == [], module.name


def test_the_face_of_gazed():
    import gazed

    assert sorted(gazed.__all__) == sorted(FACE)
    assert dir(gazed) == gazed.__all__
    with pytest.raises(AttributeError, match="no attribute 'Recordng'"):
        gazed.Recordng  # noqa: B018


def test_importing_gazed_loads_nothing_heavy():
    heavy = "{'numpy', 'cv2', 'av', 'zmq', 'rich', 'msgspec'}"
    check = f"import sys, gazed, gazed.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
