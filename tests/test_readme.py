"""The README's Python examples run as they stand, and its commands are commands of the command line."""

import re
import shlex
from pathlib import Path

import pytest

from lsm2.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    """The Python block below the comment that names it."""
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no example {name!r}"
    return found[1]


def commands(verb: str) -> list[list[str]]:
    """The arguments of the README's `lsm2 VERB ...` lines."""
    lines = re.findall(rf"^lsm2 ({verb} .*?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert lines, f"README.md has no command lsm2 {verb}"
    return [shlex.split(line) for line in lines]


def test_attention_example():
    exec(example("attention"), {})


def test_training_commands_and_model_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fewer = {
        "simulate": ["--people", "4", "--days-per-person", "2"],
        "pretrain": ["--steps", "2", "--num-workers", "0"],
    }
    for verb in (
        "simulate cohort",
        "info cohort",
        "pretrain tiny --data cohort",
        "evaluate runs/first",
        "report runs/first",
    ):
        (arguments,) = commands(verb)
        assert (
            main(
                [
                    *arguments,
                    *fewer.get(arguments[0], []),
                    *(["--tasks", "random_80"] if arguments[0] == "evaluate" else []),
                ]
            )
            == 0
        )
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    exec(example("model"), {})


def test_import_command(tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    minutes = pandas.date_range("2024-03-01", periods=3 * 1440, freq="min", tz="UTC")
    table = pandas.DataFrame(
        {"subject": "ann", "timestamp": minutes, "hr": 60.0 + minutes.hour, "steps": 1.0 * minutes.minute}
    )
    table.to_parquet("minutes.parquet")
    (arguments,) = commands("import table minutes.parquet")
    assert main(arguments) == 0
