"""Verbs are found, explained and completed, each alone; a wrong word gets the nearest right one."""

import re
import shutil
import subprocess

import pytest

from lsm2.cli import main
from lsm2.cli.command import Group, parse
from lsm2.cli.verbs import VERBS
from lsm2.errors import InputError

PAGES = [
    (name, *([word] if word else []))
    for name, found in VERBS.load().items()
    for word in (["", *found.load()] if isinstance(found, Group) else [""])
]


def fails(capsys, *words: str) -> str:
    """What tyro says of a faulty command line, as one line."""
    with pytest.raises(SystemExit) as exit:
        main(words)
    assert exit.value.code == 2
    return re.sub(r"[│\s]+", " ", capsys.readouterr().err)


@pytest.mark.parametrize("words", [(), *PAGES], ids=" ".join)
@pytest.mark.parametrize("columns", [80, 110])
def test_every_page_of_help_fits_the_terminal(words, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as exit:
        main([*words, "--help"])
    page = capsys.readouterr().out
    assert exit.value.code == 0
    assert page.startswith(" ".join(["usage: lsm2", *words]))
    # tyro never breaks the line that names all verbs; a terminal does.
    assert max(map(len, page.splitlines()[0 if words else 1 :])) <= max(columns, 80)


@pytest.mark.subprocess
def test_help_imports_neither_torch_nor_numpy(lsm2):
    code = (
        "import sys, lsm2.cli\n"
        "try: lsm2.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    done = lsm2("-c", code, "--help")
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
    for verb in VERBS.load():
        assert verb in done.stdout


@pytest.mark.subprocess
def test_info_and_import_do_not_wait_for_torch(lsm2, cohort):
    code = "import sys, lsm2.cli; lsm2.cli.main(sys.argv[1:]); print('torch' in sys.modules)"
    assert lsm2("-c", code, "info", cohort).stdout.splitlines()[-1] == "False"
    assert lsm2("-c", code, "import", "table", "nowhere.csv", "out").stdout.splitlines() == ["False"]


def test_a_page_shows_the_values_of_its_preset(capsys):
    pages = {}
    for preset in ("tiny", "base", "paper"):
        with pytest.raises(SystemExit):
            main(["pretrain", preset, "--help"])
        pages[preset] = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    assert "Width of the encoder. (default: 128)" in pages["tiny"]
    assert "Width of the encoder. (default: 384)" in pages["base"]
    assert "(default: cross)" in pages["base"] and "(default: full)" in pages["paper"]
    for page in pages.values():
        for hidden in ("--num-signals", "--sample-minutes", "--window-minutes", "--masking"):
            assert hidden not in page


def test_an_unknown_option_points_to_its_own_verb_and_the_nearest_name(capsys):
    said = fails(capsys, "evaluate", "run", "--data", "store", "--sed", "3")
    assert "Seed of what is hidden" in said and "lsm2 evaluate --help" in said
    assert "pretrain" not in said and "simulate" not in said
    said = fails(capsys, "pretrain", "tiny", "--data", "store", "--out", "run", "--decodr", "full")
    assert "--decoder {cross,joint,full}" in said and "lsm2 pretrain tiny --help" in said


def test_what_the_store_decides_is_no_option(capsys):
    said = fails(capsys, "pretrain", "tiny", "--data", "store", "--out", "run", "--num-signals", "3")
    assert "Unrecognized options: --num-signals" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["infoo"], "unknown command 'infoo'; did you mean 'info'?"),
        (["pretrain", "tyni"], "unknown preset 'tyni'; did you mean 'tiny'?"),
        (["import", "fitbot"], "unknown source 'fitbot'"),
        ([], "name a command first"),
        (["pretrain"], "name a preset first: `lsm2 pretrain {tiny,small,base,paper} ...`"),
        (["pretrain", "--data", "store", "tiny"], "name a preset first"),
    ],
    ids=" ".join,
)
def test_a_missing_or_unknown_verb_gets_the_right_ones(words, said):
    with pytest.raises(InputError, match=re.escape(said)):
        parse(VERBS, words)


def test_a_command_knows_its_flags_and_where_it_writes():
    command = parse(VERBS, ["pretrain", "tiny", "--data", "store", "--out", "runs/a", "--steps", "9"])
    assert str(command.output) == "runs/a"
    assert {"data", "train.steps", "model.patch_minutes", "masking.random_ratio"} <= set(command.flags)
    assert not {"model.sample_minutes", "model.masking", "model.num_signals"} & set(command.flags)
    assert str(parse(VERBS, ["report", "runs/a"]).output) == "runs/a"
    assert parse(VERBS, ["info", "store"]).output is None


@pytest.mark.subprocess
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_verbs_presets_and_options(lsm2, tmp_path):
    script = tmp_path / "completion"
    assert lsm2("--tyro-write-completion", "bash", script).returncode == 0
    name = re.search(r"complete .*-F (\S+) lsm2", script.read_text())
    assert name

    def complete(*words: str) -> list[str]:
        line = f"COMP_WORDS=({' '.join(words)} ''); COMP_CWORD={len(words)}"
        if words[-1].startswith("-"):
            line = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}"
        code = f"source {script}; {line}; {name[1]} lsm2; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        return subprocess.run(["bash", "-c", code], capture_output=True, text=True).stdout.split()

    assert {"simulate", "pretrain", "report"} <= set(complete("lsm2"))
    assert {"tiny", "paper"} <= set(complete("lsm2", "pretrain"))
    assert "--learning-rate" in complete("lsm2", "pretrain", "tiny", "--lea")
