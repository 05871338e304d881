"""The command line: the whole way on a tiny cohort, and one line with exit code 2 for what the user got wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lsm2.cli import main

TINY = [
    "--encoder-width", "32", "--encoder-depth", "1", "--encoder-heads", "2", "--decoder-width", "32", "--decoder-depth", "1",
    "--decoder-heads", "2", "--max-visible", "64", "--max-queries", "32", "--batch-days", "4", "--num-workers", "0",
    "--checkpoint-every", "2", "--precision", "fp32",
]  # fmt: skip


def lsm2(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m lsm2` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lsm2", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def one_line_of_blame(capsys, *arguments: object) -> str:
    """Run a command that must fail by the user's fault; returns the line it prints."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    blame = [line for line in error.splitlines() if line.startswith("lsm2: error: ")]
    assert len(blame) == 1 and error.strip().endswith(blame[0])
    assert "Traceback" not in error
    return blame[0]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("cli") / "store"
    assert main(["simulate", str(store), "--people", "6", "--days-per-person", "2", "--seed", "3"]) == 0
    return store


@pytest.fixture(scope="module")
def trained(cohort) -> Path:
    run = cohort.parent / "run"
    assert (
        main(
            [
                "pretrain",
                "tiny",
                "--data",
                str(cohort),
                "--out",
                str(run),
                "--steps",
                "4",
                "--heldout-fraction",
                "0.5",
                *TINY,
            ]
        )
        == 0
    )
    return run


def test_help_is_quick_and_imports_no_torch():
    code = (
        "import sys, lsm2.cli\n"
        "try: lsm2.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr
    for verb in ("simulate", "import", "info", "pretrain", "evaluate", "plot", "report"):
        assert verb in done.stdout


def test_the_whole_way_from_cohort_to_report(cohort, trained, capsys):
    capsys.readouterr()
    assert main(["info", str(cohort)]) == 0
    assert "6 people, 12 days, 26 signals" in capsys.readouterr().out

    assert main(["report", str(trained)]) == 0
    assert "Not evaluated yet" in (trained / "report.html").read_text()

    tasks = ["random_80", "temporal_interpolation_60", "signal_imputation_2"]
    assert main(["evaluate", str(trained), "--data", str(cohort), "--max-days", "2", "--tasks", *tasks]) == 0
    said = capsys.readouterr().out
    assert "random 80 %" in said and "*" in said
    assert "simple fill" in said.splitlines()[-1]
    evaluation = json.loads((trained / "evaluation.json").read_text())
    assert set(evaluation["generative"]) == set(tasks)
    assert evaluation["settings"]["num_people"] == 2
    heldout = json.loads((trained / "config.json").read_text())["heldout_subjects"]
    assert len(heldout) == 3

    assert (
        main(
            [
                "plot",
                str(trained),
                "--data",
                str(cohort),
                "--day",
                f"{heldout[0]}/2024-03-01",
                "--task",
                "random_50",
            ]
        )
        == 0
    )
    assert main(["report", str(trained)]) == 0
    page = (trained / "report.html").read_text()
    assert "Not evaluated yet" not in page
    assert page.count("data:image/png;base64,") == 3 + 3 + 1 + 1
    assert "26 signals every 1 min" in page


def test_unknown_preset_names_the_presets(cohort, tmp_path, capsys):
    blame = one_line_of_blame(capsys, "pretrain", "huge", "--data", cohort, "--out", tmp_path / "run")
    assert "'huge'" in blame and "tiny, small, base" in blame
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--steps", "0"), "steps is 0"),
        (("--patch-minutes", "7"), "patch_minutes is 7"),
        (("--random-ratio", "1.5"), "random_ratio is 1.5"),
        (("--encoder-heads", "5"), "encoder_heads is 5"),
        (("--batch-days", "4", "--tokens-per-batch", "9000"), "batch_days is 4 and tokens_per_batch is 9000"),
        (("--tokens-per-batch", "0"), "tokens_per_batch is 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_settings_that_cannot_be_are_named(cohort, tmp_path, capsys, option, named):
    assert named in one_line_of_blame(
        capsys, "pretrain", "tiny", "--data", cohort, "--out", tmp_path / "run", *option
    )
    assert not (tmp_path / "run").exists()


def test_flags_for_memory_and_speed_reach_the_run(cohort, tmp_path):
    run = tmp_path / "run"
    without_days = [word for word in TINY if word not in ("--batch-days", "4")]
    flags = [
        "--tokens-per-batch",
        "300",
        "--micro-batches",
        "2",
        "--activation-checkpointing",
        "--steps",
        "1",
    ]
    assert main(["pretrain", "tiny", "--data", str(cohort), "--out", str(run), *without_days, *flags]) == 0
    train = json.loads((run / "config.json").read_text())["train"]
    assert train["tokens_per_batch"] == 300 and train["batch_days"] is None and train["micro_batches"] == 2
    assert train["activation_checkpointing"] is True and train["compile"] is False


@pytest.mark.parametrize(
    ("options", "tied", "base", "share"),
    [
        ([], None, 10_000.0, 1.0),
        (
            ["--decoder", "cross", "--tied-qk-init", "1.5", "--position-base", "50", "--query-share", "0.5"],
            1.5,
            50.0,
            0.5,
        ),
    ],
    ids=["as it is", "changed"],
)
def test_the_paper_is_one_preset_away(cohort, tmp_path, options, tied, base, share):
    at = TINY.index("--max-queries")  # every hidden token is asked for
    small = TINY[:at] + TINY[at + 2 :]
    assert (
        main(
            [
                "pretrain",
                "paper",
                "--data",
                str(cohort),
                "--out",
                str(tmp_path / "run"),
                "--steps",
                "1",
                *small,
                *options,
            ]
        )
        == 0
    )
    model = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert (model["tied_qk_init"], model["position_base"], model["masking"]["query_share"]) == (
        tied,
        base,
        share,
    )
    assert model["decoder"] == ("cross" if options else "full")


def test_tied_qk_init_of_0_means_independent_keys(cohort, tmp_path):
    assert (
        main(
            [
                "pretrain",
                "tiny",
                "--data",
                str(cohort),
                "--out",
                str(tmp_path / "run"),
                "--steps",
                "1",
                *TINY,
                "--tied-qk-init",
                "0",
            ]
        )
        == 0
    )
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["tied_qk_init"] is None


def test_a_folder_that_is_no_store_or_no_run_is_named(cohort, tmp_path, capsys):
    assert str(tmp_path / "nowhere") in one_line_of_blame(capsys, "info", tmp_path / "nowhere")
    assert str(tmp_path) in one_line_of_blame(capsys, "info", tmp_path)
    assert "is not a run" in one_line_of_blame(capsys, "report", tmp_path)
    assert "is not a run" in one_line_of_blame(capsys, "evaluate", tmp_path, "--data", cohort)


@pytest.mark.parametrize("damage", ["missing", "flipped bit", "cut short"])
def test_a_damaged_store_is_named_by_shard(cohort, tmp_path, capsys, damage):
    store = shutil.copytree(cohort, tmp_path / "store")
    manifest = (
        json.loads(next(store.glob("*.json")).read_text()) if len(list(store.glob("*.json"))) == 1 else None
    )
    shard = max(store.rglob("*.arrow"), key=lambda path: path.stat().st_size)
    assert manifest is None or shard.name in json.dumps(manifest)
    data = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    else:
        data[len(data) // 2] ^= 1
        shard.write_bytes(data if damage == "flipped bit" else data[: len(data) // 2])
    assert shard.name in one_line_of_blame(capsys, "info", store)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b"", "empty"),
        (b"\x00\xff\x00\xfe nonsense", ""),
        (b"subject,timestamp,heart_rate\nann,2026-01-01 00:00,70\nann,2026-01-01 00:00,71\n", "row"),
        (b"subject,time,heart_rate\nann,2026-01-01 00:00,70\n", "timestamp"),
    ],
    ids=["empty", "not a table", "duplicate minute", "no timestamp column"],
)
def test_a_table_that_cannot_be_read_is_named_and_nothing_is_written(tmp_path, capsys, text, named):
    source = tmp_path / "day.csv"
    source.write_bytes(text)
    blame = one_line_of_blame(capsys, "import", "table", source, tmp_path / "out")
    assert "day.csv" in blame and named in blame
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day.csv"]


def test_import_table_then_info(tmp_path, capsys):
    source = tmp_path / "day.csv"
    rows = [
        f"ann,2026-01-01 {minute // 60:02d}:{minute % 60:02d},{60 + minute % 7}"
        for minute in range(0, 1440, 5)
    ]
    source.write_text("subject,timestamp,heart_rate\n" + "\n".join(rows) + "\n")
    assert main(["import", "table", str(source), str(tmp_path / "out"), "--sample-minutes", "5"]) == 0
    assert main(["info", str(tmp_path / "out")]) == 0
    assert "288 samples a day (every 5 min)" in capsys.readouterr().out


def test_existing_outputs_stay_untouched_by_a_command_that_fails(cohort, trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "evaluation.json").write_text('{"kept": true}')
    before = contents(run)
    source = tmp_path / "empty.csv"
    source.write_bytes(b"")
    store_before = contents(cohort)
    one_line_of_blame(capsys, "evaluate", run, "--data", cohort, "--tasks", "random_99")
    one_line_of_blame(capsys, "evaluate", run, "--data", tmp_path / "nowhere")
    one_line_of_blame(capsys, "plot", run, "--data", cohort, "--day", "nobody/2024-03-01")
    one_line_of_blame(capsys, "import", "table", source, cohort)
    one_line_of_blame(capsys, "simulate", run, "--people", "2", "--days-per-person", "1")
    assert contents(run) == before
    assert contents(cohort) == store_before


def test_resuming_from_a_checkpoint_cut_in_half_is_refused(cohort, trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    for weights in (run / "checkpoints").rglob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    before = contents(run)
    blame = one_line_of_blame(
        capsys,
        "pretrain",
        "tiny",
        "--data",
        cohort,
        "--out",
        run,
        "--steps",
        "4",
        "--heldout-fraction",
        "0.5",
        *TINY,
        "--resume",
    )
    assert "checkpoint" in blame
    assert contents(run) == before


def test_a_process_of_its_own_exits_with_2_and_no_traceback(tmp_path):
    for arguments in (
        ("info", tmp_path / "nowhere"),
        ("frobnicate",),
        ("pretrain",),
        ("pretrain", "tiny", "--steps", "many"),
    ):
        done = lsm2(*arguments)
        assert done.returncode == 2
        assert done.stderr and "Traceback" not in done.stderr


def test_figures_without_matplotlib_say_what_to_install(trained, monkeypatch, capsys):
    monkeypatch.setattr("lsm2.report.figures.find_spec", lambda name: None)
    assert "pip install matplotlib" in one_line_of_blame(capsys, "report", trained)
