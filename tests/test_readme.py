"""The Python examples of README and docs run unchanged, and their commands are those of the command line."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lsm2.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def example(page: str, name: str) -> str:
    """The Python block below the comment that names it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found, f"{page} has no example {name!r}"
    return found[1]


def command(page: str, start: str) -> list[str]:
    """The arguments of the page's one line `lsm2 START ...`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(rf"^lsm2 ({start}.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert len(lines) == 1, f"{page} has {len(lines)} commands lsm2 {start}"
    return shlex.split(lines[0])


@pytest.mark.parametrize(("page", "name"), [("README.md", "attention"), ("docs/op.md", "op")])
def test_examples_of_the_op(page, name):
    exec(example(page, name), {})


@pytest.mark.slow
def test_commands_and_examples_of_a_trained_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = ["--steps", "2", "--num-workers", "0"]
    for page, start, more in (
        ("README.md", "simulate cohort", ["--people", "12", "--days-per-person", "2"]),
        ("README.md", "info cohort", []),
        ("README.md", "pretrain tiny --data cohort", short),
        ("docs/train.md", "pretrain tiny --data cohort --out runs/first", [*short, "--resume"]),
        ("README.md", "evaluate runs/first", ["--tasks", "random_80"]),
        ("docs/train.md", "pretrain tiny --data cohort --out runs/filled", short),
        ("docs/evaluate.md", "evaluate runs/first --data cohort --against", ["--tasks", "random_80"]),
        ("docs/evaluate.md", "plot runs/first", []),
        ("docs/probe.md", "embed runs/first --data cohort --out days.parquet", []),
        ("docs/probe.md", "embed runs/first --data cohort --out people.parquet", []),
        ("docs/probe.md", "probe runs/first", ["--repeats", "1"]),
        ("README.md", "probe runs/first", ["--repeats", "1"]),
        ("README.md", "report runs/first", []),
    ):
        assert main([*command(page, start), *more]) == 0
    assert (tmp_path / "runs" / "first" / "report.html").is_file()
    exec(example("README.md", "model"), {})
    pytest.importorskip("pandas")
    exec(example("docs/data.md", "frame"), {})


@pytest.mark.parametrize("page", ["README.md", "docs/data.md"])
def test_import_command(page, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    minutes = pandas.date_range("2024-03-01", periods=3 * 1440, freq="min", tz="UTC")
    table = pandas.DataFrame(
        {"subject": "ann", "timestamp": minutes, "hr": 60.0 + minutes.hour, "steps": 1.0 * minutes.minute}
    )
    table.to_parquet("minutes.parquet")
    assert main(command(page, "import table minutes.parquet")) == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_names_of_files_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [t for t in targets if t and "://" not in t and not (page.parent / t).exists()]
    assert not missing
    named = re.findall(r"`((?:lsm2|lsm2_kernels|tests|benchmarks|csrc|docs)/[\w/]+\.\w+)`", text)
    assert not [name for name in named if "NAME" not in name and not (ROOT / name).exists()]


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("![") for line in lines[:20]), "a picture stands near the top"
