"""`lsm2 pretrain`: presets, settings that reach the run, and refusals that name a flag."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lsm2.cli import main
from lsm2.data import Day, DayStore, Signal


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_unknown_preset_names_the_presets(cohort, tmp_path, blame):
    blame = blame("pretrain", "huge", "--data", cohort, "--out", tmp_path / "run")
    assert "'huge'" in blame and "tiny, small, base" in blame
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--steps", "0"), "--steps is 0"),
        (("--patch-minutes", "7"), "--patch-minutes is 7"),
        (("--random-ratio", "1.5"), "--random-ratio is 1.5"),
        (("--encoder-heads", "5"), "--encoder-heads is 5"),
        (
            ("--batch-days", "4", "--tokens-per-batch", "9000"),
            "--batch-days is 4 and --tokens-per-batch is 9000",
        ),
        (("--tokens-per-batch", "0"), "--tokens-per-batch is 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_settings_that_cannot_be_are_named(cohort, tmp_path, blame, option, named):
    assert named in blame("pretrain", "tiny", "--data", cohort, "--out", tmp_path / "run", *option)
    assert not (tmp_path / "run").exists()


def test_flags_for_memory_and_speed_reach_the_run(cohort, tmp_path, tiny):
    run = tmp_path / "run"
    without_days = [word for word in tiny if word not in ("--batch-days", "4")]
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
    ids=["unchanged", "changed"],
)
def test_the_paper_is_one_preset_away(cohort, tmp_path, tiny, options, tied, base, share):
    at = tiny.index("--max-queries")  # every hidden token is asked for
    small = tiny[:at] + tiny[at + 2 :]
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


def test_tied_qk_init_of_None_means_independent_keys(cohort, tmp_path, tiny):
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
                *tiny,
                "--tied-qk-init",
                "None",
            ]
        )
        == 0
    )
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["tied_qk_init"] is None


def test_resuming_from_a_checkpoint_cut_in_half_is_refused(cohort, trained, tmp_path, tiny, blame):
    run = shutil.copytree(trained, tmp_path / "run")
    for weights in (run / "checkpoints").rglob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    before = _contents(run)
    blame = blame(
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
        *tiny,
        "--resume",
    )
    assert "checkpoint" in blame
    assert _contents(run) == before


def test_tokens_fit_the_sampling_of_the_store_unless_given(tmp_path, tiny, capsys, blame):
    rng = np.random.default_rng(0)
    days = [
        Day(f"p{person}", "2026-01-01", rng.normal(size=(2, 96)).astype(np.float32)) for person in range(4)
    ]
    store = tmp_path / "store"
    DayStore.write(store, [Signal("a", "x"), Signal("b", "y")], days, sample_minutes=15)
    command = ["pretrain", "tiny", "--data", str(store), "--steps", "1", *tiny]

    def trained(run: str, *options: str) -> dict:
        assert main([*command, "--out", str(tmp_path / run), *options]) == 0
        return json.loads((tmp_path / run / "config.json").read_text())["model"]

    model = trained("fitted")
    assert (model["patch_minutes"], model["sample_minutes"], model["num_signals"]) == (15, 15, 2)
    assert "tokens of 15 minutes instead of 10" in capsys.readouterr().out
    assert trained("given", "--patch-minutes", "30")["patch_minutes"] == 30
    assert "instead of" not in capsys.readouterr().out
    said = blame(*command, "--out", tmp_path / "refused", "--patch-minutes", "20")
    assert "--patch-minutes is 20; it must be a multiple of sample_minutes = 15" in said


def test_more_steps_make_a_run_longer(cohort, trained, tmp_path, tiny):
    run = shutil.copytree(trained, tmp_path / "run")
    data = ["--data", str(cohort), "--out", str(run), "--heldout-fraction", "0.5"]
    assert main(["pretrain", "tiny", *data, *tiny, "--resume", "--steps", "6"]) == 0
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").open()] == [1, 2, 3, 4, 5, 6]


def test_other_settings_at_a_resume_are_named_as_flags(cohort, trained, tiny, blame):
    command = [
        "pretrain",
        "tiny",
        "--data",
        cohort,
        "--out",
        trained,
        "--heldout-fraction",
        "0.5",
        *tiny,
        "--resume",
    ]
    assert "trained with --steps 4, now it is 2; a run can be made longer" in blame(*command, "--steps", "2")
    assert "trained with --random-ratio 0.8, now it is 0.7" in blame(*command, "--random-ratio", "0.7")


def test_a_run_begins_with_the_weights_of_another(cohort, trained, tmp_path, tiny, blame):
    run = tmp_path / "run"
    data = ["--data", str(cohort), "--out", str(run), "--heldout-fraction", "0.5"]
    assert main(["pretrain", "tiny", *data, *tiny, "--steps", "1", "--init-from", str(trained)]) == 0
    assert json.loads((run / "config.json").read_text())["initial"] == str(trained)
    nowhere = ["pretrain", "tiny", "--data", cohort, "--out", tmp_path / "other", *tiny, "--init-from"]
    assert str(tmp_path / "nowhere") in blame(*nowhere, tmp_path / "nowhere")
