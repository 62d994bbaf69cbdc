"""Parquet: the contract, the schema that never changes, and values that come back as they were."""

from __future__ import annotations

import pytest

from gazed_plugins.export.parquet import ParquetExporter
from gazed_plugins.export.testing import check_exporter
from gazed_recorder.testing_rich import make_rich_recording


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_rich_recording(tmp_path_factory.mktemp("recordings"))


def test_the_contract(folder, tmp_path):
    check_exporter(ParquetExporter, {}, folder, tmp_path)
