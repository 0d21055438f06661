"""Every command has help, the README and guides name real commands, and nothing heavy is loaded to print help."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path

import click
import pytest

from cultev.cli import COMMANDS, _show, cli
from cultev.errors import UsageError
from tests.cli.command import TOP, cultev, environment, fails


def all_commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    found = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found.extend(all_commands(command, (*path, name)))
    return found


@pytest.mark.parametrize(("path", "command"), all_commands(), ids=[" ".join(path) for path, _ in all_commands()])
def test_every_command_has_help_on_every_option(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help, path
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, (path, parameter.name)


def test_short_helps_say_what_the_commands_do() -> None:
    assert set(COMMANDS) == {path[0] for path, _ in all_commands()}


@pytest.mark.parametrize(("name", "first"), [("harm", "run"), ("lsk", "fit")])
def test_a_group_lists_its_commands_as_they_are_used_each_in_a_line(name: str, first: str, tmp_path: Path) -> None:
    lines = cultev(name, "--help", cwd=tmp_path).out.split("Commands:\n")[1].splitlines()
    inner = [path[1] for path, _ in all_commands() if path[0] == name and len(path) == 2]
    assert lines[0].split()[0] == first and sorted(line.split()[0] for line in lines) == sorted(inner)
    assert all(line.endswith(".") and "..." not in line for line in lines)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['cultev', '--help']\n"
        "from cultev.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'rich', 'onnxruntime', 'llama_cpp', 'tokenizers', 'jinja2', 'sqlite3'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_works_everywhere(flag: str, tmp_path: Path) -> None:
    for words in ((), ("run",), ("suites", "show"), ("models", "show")):
        done = cultev(*words, flag, cwd=tmp_path)
        assert done.code == 0
        assert done.out.startswith("Usage: ")


def test_completion_scripts(tmp_path: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_CULTEV_COMPLETE" in cultev("completion", shell, cwd=tmp_path).out


def documents() -> list[tuple[str, str]]:
    pages = [p for p in resources.files("cultev").joinpath("guide").iterdir() if p.name.endswith(".md")]
    return [(p.name, p.read_text(encoding="utf-8")) for p in pages] + [
        ("README.md", (TOP / "README.md").read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("name", "text"), documents(), ids=[name for name, _ in documents()])
def test_documents_name_commands_that_exist(name: str, text: str) -> None:
    known = {" ".join(path) for path, _ in all_commands()}
    for line in re.findall(r"(?:^|[`&|] ?|^    )cultev ([a-z]+(?: [a-z]+)?)", text, re.MULTILINE):
        words = line.split()
        if words[0] == "reference":  # the model's name in shown output
            continue
        assert words[0] in known, f"{name}: cultev {line}"
        if words[0] in ("suites", "runs", "models", "harm") and len(words) > 1:
            assert line in known, f"{name}: cultev {line}"


def test_the_guide_lists_its_topics_and_reads_them(tmp_path: Path) -> None:
    listed = cultev("guide", cwd=tmp_path).out
    for topic in ("start", "results", "models", "speed", "suites", "faults", "harm"):
        assert f"  {topic} " in listed
        assert cultev("guide", topic, cwd=tmp_path).out.startswith("# ")


def test_doctor_proves_a_model(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    from tests.backend.gguf_models import write_tiny_gguf

    write_tiny_gguf(tmp_path / "tiny.gguf", n_ctx=2048)
    done = cultev("doctor", "tiny.gguf", "--items", 3, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "agrees with computing again: 3 questions" in done.out


def test_models_show(tmp_path: Path) -> None:
    from tests.backend.gguf_models import write_tiny_gguf

    write_tiny_gguf(tmp_path / "tiny.gguf")
    done = cultev("models", "show", "tiny.gguf", "--json", cwd=tmp_path)
    facts = json.loads(done.out)
    assert facts["architecture"] == "llama" and facts["memory_mb"] > 0
    assert (facts["heads"], facts["kv_heads"]) == (4, 2)
    onnx = json.loads(cultev("models", "show", "reference:onnx", "--json", cwd=tmp_path).out)
    assert 0 < onnx["short_questions_mb"] < onnx["memory_mb"]
    assert facts["file_mb"] == round((tmp_path / "tiny.gguf").stat().st_size / 1e6, 1)


@pytest.mark.parametrize(
    ("hidden", "words", "extra"),
    [("llama_cpp", ("run", "tiny.gguf"), "gguf"), ("onnxruntime", ("run", "reference:onnx"), "onnx")],
)
def test_a_missing_extra_is_two_lines(tmp_path: Path, hidden: str, words: tuple[str, ...], extra: str) -> None:
    """A package that can't be imported stands in for one that is not installed."""
    from tests.backend.gguf_models import write_tiny_gguf

    write_tiny_gguf(tmp_path / "tiny.gguf")
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / f"{hidden}.py").write_text("raise ImportError('not installed')")
    done = cultev(*words, cwd=tmp_path, PYTHONPATH=f"{blocker}{os.pathsep}{TOP}")
    assert done.code == 1
    lines = done.err.splitlines()
    assert len(lines) == 2, done.err
    assert lines[1] == f'Install it: pip install "cultev[{extra}]"'


@pytest.mark.parametrize(("path", "command"), all_commands(), ids=[" ".join(path) for path, _ in all_commands()])
def test_every_option_has_the_variable_of_its_name(path: tuple[str, ...], command: click.Command) -> None:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name != "help":
            names = {opt.lstrip("-").replace("-", "_").upper() for opt in parameter.opts}
            assert parameter.envvar in {"_".join(["CULTEV", *(p.upper() for p in path), n]) for n in names}


@pytest.mark.skipif(os.name == "nt", reason="a pipe that is closed")
@pytest.mark.parametrize("words", [("--help",), ("models", "suggest", "--json"), ("guide", "speed")])
def test_a_reader_that_has_had_enough_is_no_failure(words: tuple[str, ...], tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "cultev", *words], cwd=tmp_path, env=environment(), stdout=write, stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_errors_are_wrapped_for_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = UsageError(
        f"A sentence of {' '.join(['many'] * 20)} words.", f"See: {' '.join(['word'] * 30)} /a/{'b' * 90}"
    )
    _show(error)
    assert len(capsys.readouterr().err.splitlines()) == 2
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _show(error)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 4 and max(len(line) for line in lines if "/a/" not in line) <= 80
    assert " ".join(lines) == f"Error: {error.message} {error.next_step}"


def test_more_threads_than_cores_are_refused(tmp_path: Path) -> None:
    fails(cultev("bench", "reference", "--threads", 100_000, cwd=tmp_path), f"cores: {os.cpu_count()}", code=2)
