"""Built-in suites: found in a wheel, built when needed in a checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cultev import locate
from cultev.errors import ModelNotFound, SuiteNotFound, SuiteSourceError, UsageError
from cultev.suite import (
    build_suite,
    builtin_names,
    builtin_suite,
    builtin_suite_sources,
    builtin_suites,
    open_suite,
)
from tests.suite.sources import CHOICE, SUITE, changed, write_source


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose one suite is the tiny one."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "hatch_build.py").touch()
    write_source(tmp_path / "suites" / "tiny")
    monkeypatch.setattr(locate, "_PACKAGE", tmp_path / "cultev")
    monkeypatch.setattr(locate, "user_cache_dir", lambda: tmp_path / "cache")
    return tmp_path


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with one built suite."""
    built = tmp_path / "cultev" / "_data" / "suites" / "tiny.db"
    build_suite(write_source(tmp_path / "tiny"), built)
    monkeypatch.setattr(locate, "_PACKAGE", tmp_path / "cultev")
    return built


def test_a_checkout_builds_what_is_absent(checkout: Path) -> None:
    assert builtin_names() == ("tiny",)
    built = builtin_suite("tiny")
    assert built == checkout / "cultev" / "_data" / "suites" / "tiny.db"
    with open_suite("tiny") as suite:
        assert (suite.name, suite.path) == ("tiny", built)


def test_a_checkout_builds_again_only_what_is_older_than_its_source(checkout: Path) -> None:
    built = builtin_suites()["tiny"]
    stamp = built.stat().st_mtime_ns
    assert builtin_suite("tiny").stat().st_mtime_ns == stamp
    write_source(checkout / "suites" / "tiny", [changed(CHOICE)])
    os.utime(checkout / "suites" / "tiny" / "items.jsonl", ns=(stamp + 1, stamp + 1))
    with open_suite("tiny") as suite:
        assert suite.n_items == 1


def test_a_built_file_that_is_no_suite_is_replaced(checkout: Path) -> None:
    built = checkout / "cultev" / "_data" / "suites" / "tiny.db"
    built.parent.mkdir(parents=True)
    built.touch()
    with open_suite("tiny") as suite:
        assert suite.n_items == 2


def test_a_checkout_that_cannot_be_written_builds_into_the_cache(checkout: Path) -> None:
    (checkout / "cultev").write_text("no folder can be made below a file")
    built = builtin_suite("tiny")
    assert built.is_relative_to(checkout / "cache" / "suites")
    stamp = built.stat().st_mtime_ns
    assert builtin_suite("tiny").stat().st_mtime_ns == stamp


def test_a_bad_source_is_told(checkout: Path) -> None:
    write_source(checkout / "suites" / "tiny", suite=SUITE.replace("1.2.0", "one"))
    with pytest.raises(SuiteSourceError):
        builtin_suite("tiny")


def test_a_wheel_has_no_sources(wheel: Path) -> None:
    assert builtin_suite_sources() == {}
    assert builtin_suites() == {"tiny": wheel}
    with open_suite("tiny") as suite:
        assert suite.path == wheel


def test_an_unknown_name(wheel: Path) -> None:
    with pytest.raises(SuiteNotFound) as caught:
        builtin_suite("huge")
    assert caught.value.next_step == "Built in: tiny."


def test_a_built_in_name_wins_over_a_file(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = build_suite(write_source(tmp_path / "other", [CHOICE]), tmp_path / "file")
    other.path.rename(tmp_path / "tiny2")
    (tmp_path / "tiny2").rename(tmp_path / "here")
    with open_suite("tiny") as suite, open_suite("here") as file:
        assert (suite.n_items, file.n_items) == (2, 1)


def test_the_reference_model(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="not complete here") as caught:
        locate.reference_model()
    assert "Install cultev again" in caught.value.next_step
    folder = tmp_path / "cultev" / "_data" / "reference"
    (folder / "onnx-int8").mkdir(parents=True)
    (folder / "truth.json").touch()
    assert locate.reference_model() == folder / "onnx-int8"
    assert locate.reference_file("truth.json") == folder / "truth.json"
    with pytest.raises(ModelNotFound, match="reference-Q8_0"):
        locate.reference_model("gguf")
    with pytest.raises(UsageError, match="not as 'safetensors'"):
        locate.reference_model("safetensors")


def test_the_reference_model_of_a_checkout(checkout: Path) -> None:
    with pytest.raises(ModelNotFound) as caught:
        locate.reference_model("gguf")
    assert "tools/train_reference.py" in caught.value.next_step
    (checkout / "models" / "reference").mkdir(parents=True)
    (checkout / "models" / "reference" / "reference-Q8_0.gguf").touch()
    assert locate.reference_model("gguf") == checkout / "models" / "reference" / "reference-Q8_0.gguf"


def test_the_cache_lies_where_the_system_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert locate.user_cache_dir().name == "cultev"


@pytest.mark.parametrize("name", ["lsk-core", "norms-core", "planted"])
def test_the_suites_that_come_with_cultev_are_sound(name: str) -> None:
    with open_suite(name) as suite:
        assert suite.name == name
        assert suite.n_items == sum(1 for _ in suite.items()) >= 150
        assert suite.unsupported == 0
