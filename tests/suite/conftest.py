"""A built tiny suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from cultev.suite import build_suite
from tests.suite.sources import write_source


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The file of the tiny suite."""
    return build_suite(write_source(tmp_path / "tiny"), tmp_path / "tiny.db").path
