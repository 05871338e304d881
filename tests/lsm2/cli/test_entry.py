"""One line of blame and exit code 2 for what the user got wrong; pipes, signals and versions."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lsm2.cli import entry, main
from lsm2.cli.command import Group

CLONE = Path(__file__).parents[3]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_folder_that_is_no_store_or_no_run_is_named(cohort, tmp_path, blame):
    assert str(tmp_path / "nowhere") in blame("info", tmp_path / "nowhere")
    assert str(tmp_path) in blame("info", tmp_path)
    assert "is not a run" in blame("report", tmp_path)
    assert "is not a run" in blame("evaluate", tmp_path, "--data", cohort)


def test_existing_outputs_stay_untouched_by_a_command_that_fails(cohort, trained, tmp_path, blame):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "evaluation.json").write_text('{"kept": true}')
    before = contents(run)
    source = tmp_path / "empty.csv"
    source.write_bytes(b"")
    store_before = contents(cohort)
    blame("evaluate", run, "--data", cohort, "--tasks", "random_99")
    blame("evaluate", run, "--data", tmp_path / "nowhere")
    blame("plot", run, "--data", cohort, "--day", "nobody/2024-03-01")
    blame("import", "table", source, cohort)
    blame("simulate", run, "--people", "2", "--days-per-person", "1")
    assert contents(run) == before
    assert contents(cohort) == store_before


@pytest.mark.subprocess
def test_a_process_of_its_own_exits_with_2_and_no_traceback(tmp_path, lsm2):
    for arguments in (
        ("info", tmp_path / "nowhere"),
        ("frobnicate",),
        ("pretrain",),
        ("pretrain", "tiny", "--steps", "many"),
    ):
        done = lsm2(*arguments)
        assert done.returncode == 2
        assert done.stderr and "Traceback" not in done.stderr


def test_figures_without_matplotlib_say_what_to_install(trained, monkeypatch, blame):
    monkeypatch.setattr("lsm2.report.figures.find_spec", lambda name: None)
    assert "pip install matplotlib" in blame("report", trained)


def raising(error: BaseException, monkeypatch) -> None:
    """Let `lsm2 info` raise."""

    def info(store: Path, /) -> None:
        raise error

    monkeypatch.setattr(entry, "VERBS", Group("command", "", lambda: {"info": info}))


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    raising(KeyboardInterrupt(), monkeypatch)
    assert main(["info", "store"]) == 130
    assert capsys.readouterr().err == "lsm2: interrupted\n"


def test_a_training_that_a_signal_ended_keeps_its_exit_code(monkeypatch):
    raising(SystemExit(143), monkeypatch)
    with pytest.raises(SystemExit) as exit:
        main(["info", "store"])
    assert exit.value.code == 143


def test_a_full_disk_names_the_folder(monkeypatch, blame):
    def report(run: Path, /) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(entry, "VERBS", Group("command", "", lambda: {"report": report}))
    assert blame("report", "runs/a").endswith("runs/a: No space left on device; make room there")


@pytest.mark.subprocess
@pytest.mark.parametrize("words", [["info", "STORE"], ["pretrain", "tiny", "--help"]], ids=["info", "help"])
def test_a_reader_that_has_gone_is_no_error(cohort, words):
    command = [sys.executable, "-m", "lsm2", *(str(cohort) if word == "STORE" else word for word in words)]
    with subprocess.Popen(command, cwd=CLONE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.subprocess
def test_version_names_what_a_bug_report_needs(lsm2):
    done = lsm2("--version")
    assert done.returncode == 0
    assert re.match(r"lsm2 \S+.*, Python 3\.\d+\.\d+, torch 2\..*, CPU kernels \w+", done.stdout)


@pytest.mark.subprocess
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(lsm2, tmp_path):
    code = "import os, lsm2.cli; lsm2.cli.main(['info', 'nowhere']); print(os.environ['OMP_WAIT_POLICY'])"
    without = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    assert lsm2("-c", code, env=without).stdout.strip() == "PASSIVE"
    assert lsm2("-c", code, env=without | {"OMP_WAIT_POLICY": "ACTIVE"}).stdout.strip() == "ACTIVE"
