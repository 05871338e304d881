"""Whole runs: what they leave, that a resumed one is the same one, and what stops them."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lsm2 import LSM2, LSM2Config
from lsm2.config import MaskingConfig, TrainConfig
from lsm2.data import DayStore, Normalization
from lsm2.errors import InputError
from lsm2.model.precision import bfloat16_is_fast
from lsm2.training import pretrain

CLONE = Path(__file__).parents[3]
CLOCK = {"days_per_second", "visible_tokens_per_second", "loader_wait", "seconds"}
Pretrain = Callable[..., Path]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small gain nothing from a second thread, and on a busy machine lose much by waiting for
    it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def small_pretrain(
    tiny_config: LSM2Config, small_train_config: TrainConfig, small_store: DayStore
) -> Pretrain:
    """pretrain with the small settings, some of them changed."""

    def run(
        out: Path,
        *,
        resume: bool = False,
        initial: Path | None = None,
        stop_after: int | None = None,
        store: DayStore = small_store,
        **changes: object,
    ) -> Path:
        model = tiny_config
        for name in ("decoder", "fill_gaps", "signal_codes"):
            if name in changes:
                model = dataclasses.replace(model, **{name: changes.pop(name)})
        return pretrain(
            model,
            dataclasses.replace(small_train_config, **changes),
            store,
            out,
            resume=resume,
            initial=initial,
            stop_after=stop_after,
        )

    return run


@pytest.fixture(scope="module")
def whole_run(small_pretrain: Pretrain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_pretrain(tmp_path_factory.mktemp("runs") / "whole")


def metrics(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]


def assert_same_run(run: Path, other: Path, step: int = 8) -> None:
    for name in ("model", "ema", "optimizer"):
        one, two = (
            load_file(path / "checkpoints" / f"step_{step:08}" / f"{name}.safetensors")
            for path in (run, other)
        )
        assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one), name
    assert metrics(run) == metrics(other)
    one, two = (LSM2.from_pretrained(path).state_dict() for path in (run, other))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_run_folder(whole_run: Path, small_store: DayStore, tiny_config: LSM2Config) -> None:
    config = json.loads((whole_run / "config.json").read_text())
    assert config["format_version"] == 2 and LSM2Config.from_dict(config["model"]) == tiny_config
    assert TrainConfig(**config["train"]).steps == 8
    assert sorted(config["train_subjects"] + config["heldout_subjects"]) == list(small_store.subjects)
    assert len(config["heldout_subjects"]) == 1
    assert config["store"]["path"] == str(small_store.path)
    assert sorted(path.name for path in (whole_run / "checkpoints").iterdir()) == [
        "step_00000004",
        "step_00000008",
    ]

    lines = [json.loads(line) for line in (whole_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert all(
        line["loss"] > 0 and line["grad_norm"] > 0 and line["learning_rate"] > 0 and not line["skipped"]
        for line in lines
    )
    assert all(
        line["days_per_second"] > 0 and line["visible_tokens_per_second"] > 0 and line["seconds"] > 0
        for line in lines
    )
    assert all(0 <= line["loader_wait"] <= 1 for line in lines) and any(
        line["loader_wait"] > 0 for line in lines
    )


def test_model_is_the_average_and_knows_the_training_days(whole_run: Path, small_store: DayStore) -> None:
    model = LSM2.from_pretrained(whole_run)
    average = load_file(whole_run / "checkpoints/step_00000008/ema.safetensors")
    assert all(torch.equal(weight, average[name]) for name, weight in model.named_parameters())
    people = json.loads((whole_run / "config.json").read_text())["train_subjects"]
    expected = Normalization.from_moments(small_store.signals, small_store.moments_of(people))
    assert model.normalization is not None and model.normalization.to_dict() == expected.to_dict()
    assert np.isfinite(model.impute(small_store.values(0))).all()


def test_training_reduces_the_loss(small_pretrain: Pretrain, tmp_path: Path) -> None:
    losses = [
        line["loss"] for line in metrics(small_pretrain(tmp_path / "run", steps=50, learning_rate=5e-3))
    ]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize("decoder", ["joint", "full"])
def test_other_decoders_and_bf16_train(small_pretrain: Pretrain, tmp_path: Path, decoder: str) -> None:
    run = small_pretrain(tmp_path / "run", steps=2, decoder=decoder, precision="bf16")
    assert (
        all(line["loss"] > 0 for line in metrics(run)) and LSM2.from_pretrained(run).config.decoder == decoder
    )


def test_resume_is_bit_exact(small_pretrain: Pretrain, whole_run: Path, tmp_path: Path) -> None:
    small_pretrain(tmp_path / "run", stop_after=3)
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2, 3]
    small_pretrain(tmp_path / "run", resume=True, stop_after=5)
    small_pretrain(tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole_run)


def test_workers_and_saving_more_often_change_nothing(
    small_pretrain: Pretrain, whole_run: Path, tmp_path: Path
) -> None:
    small_pretrain(tmp_path / "run", num_workers=1, checkpoint_every=1, stop_after=2)
    small_pretrain(tmp_path / "run", num_workers=2, checkpoint_every=8, resume=True)
    assert_same_run(tmp_path / "run", whole_run)


def test_days_that_no_mask_fits_are_told(
    small_store: DayStore, tiny_config: LSM2Config, small_train_config: TrainConfig, tmp_path: Path, capsys
) -> None:
    # A tenth of three signals rounds to none.
    masking = MaskingConfig(random_share=0, time_share=0, signal_ratio=0.1)
    config = dataclasses.replace(tiny_config, masking=masking)
    short = dataclasses.replace(small_train_config, steps=1)
    pretrain(config, short, small_store, tmp_path / "run")
    assert "nothing to learn from 15 of 15 days" in capsys.readouterr().err


def test_a_token_budget_resumes_bit_exactly_with_any_loader(small_pretrain: Pretrain, tmp_path: Path) -> None:
    settings = {"batch_days": None, "tokens_per_batch": 120, "micro_batches": 2, "steps": 12}
    whole = small_pretrain(tmp_path / "whole", **settings)
    run = small_pretrain(tmp_path / "run", stop_after=5, num_workers=1, **settings)
    small_pretrain(run, resume=True, stop_after=8, num_workers=2, **settings)
    small_pretrain(run, resume=True, **settings)
    assert_same_run(run, whole, 12)
    config = json.loads((run / "config.json").read_text())["train"]
    assert config["tokens_per_batch"] == 120 and config["batch_days"] is None
    with pytest.raises(InputError, match=r"train\.(batch_days|tokens_per_batch) = "):
        small_pretrain(run, resume=True, **settings | {"tokens_per_batch": 121})
    # 36 tokens a day, about two thirds of them observed: the number of days is that of the budget, and not
    # the same in every step.
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(line["num_visible"] + line["num_target"] / 10 <= 120 for line in lines)


def test_recomputing_activations_is_the_same_run_bit_for_bit(
    small_pretrain: Pretrain, whole_run: Path, tmp_path: Path
) -> None:
    small_pretrain(tmp_path / "run", stop_after=3, activation_checkpointing=True)
    small_pretrain(tmp_path / "run", resume=True, stop_after=5)
    assert_same_run(small_pretrain(tmp_path / "run", resume=True, activation_checkpointing=True), whole_run)


def test_resume_of_a_finished_run_changes_nothing(small_pretrain: Pretrain, whole_run: Path) -> None:
    before = {path: path.read_bytes() for path in whole_run.rglob("*") if path.is_file()}
    small_pretrain(whole_run, resume=True)
    assert before == {path: path.read_bytes() for path in whole_run.rglob("*") if path.is_file()}


def test_resume_writes_the_model_that_a_kill_prevented(
    small_pretrain: Pretrain, whole_run: Path, tmp_path: Path
) -> None:
    run = small_pretrain(tmp_path / "run")
    for file in (run / "model").iterdir():
        file.unlink()
    small_pretrain(run, resume=True)
    assert_same_run(run, whole_run)


def test_resume_without_a_run_begins_one(small_pretrain: Pretrain, whole_run: Path, tmp_path: Path) -> None:
    assert_same_run(small_pretrain(tmp_path / "run", resume=True), whole_run)


def test_a_run_can_be_made_longer_and_not_shorter(small_pretrain: Pretrain, tmp_path: Path) -> None:
    run = small_pretrain(tmp_path / "run", steps=4)
    small_pretrain(run, steps=6, resume=True)
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert json.loads((run / "config.json").read_text())["train"]["steps"] == 6
    with pytest.raises(InputError, match=r"train\.steps = 6, now it is 5; a run can be made longer"):
        small_pretrain(run, steps=5, resume=True)


def test_training_begins_from_given_weights(
    small_pretrain: Pretrain, whole_run: Path, tmp_path: Path
) -> None:
    given = LSM2.from_pretrained(whole_run)
    # Weights that hardly move, so that they can be told from new ones.
    settings = {"steps": 2, "learning_rate": 1e-9, "final_learning_rate": 1e-9, "weight_decay": 0.0}
    run = small_pretrain(tmp_path / "run", initial=whole_run, stop_after=1, **settings)
    small_pretrain(run, resume=True, **settings)
    assert json.loads((run / "config.json").read_text())["initial"] == str(whole_run)
    weights = LSM2.from_pretrained(run).state_dict()
    assert all(torch.allclose(weights[name], value, atol=1e-6) for name, value in given.state_dict().items())
    with pytest.raises(InputError, match="has another shape"):
        small_pretrain(tmp_path / "other", initial=whole_run, decoder="joint")


def test_damaged_checkpoint_costs_only_the_steps_since(
    small_pretrain: Pretrain, whole_run: Path, tmp_path: Path
) -> None:
    run = small_pretrain(tmp_path / "run", checkpoint_every=2, stop_after=6)
    weights = run / "checkpoints/step_00000006/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.warns(RuntimeWarning, match="step_00000006 is damaged"):
        small_pretrain(run, checkpoint_every=4, resume=True)
    assert_same_run(run, whole_run)


def test_folder_in_use_is_refused_untouched(
    small_pretrain: Pretrain, whole_run: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in whole_run.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="--resume"):
        small_pretrain(whole_run)
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="holds no run"):
            small_pretrain(tmp_path, resume=resume)
    with pytest.raises(InputError, match="is a file"):
        small_pretrain(tmp_path / "notes.txt")
    assert before == {path: path.read_bytes() for path in whole_run.rglob("*") if path.is_file()}
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 0.5}, r"train\.learning_rate = 0\.001, now it is 0\.5"),
        ({"decoder": "joint"}, r"model\.decoder = 'cross', now it is 'joint'"),
        ({"seed": 1}, "heldout_subjects|train"),
    ],
    ids=["learning rate", "decoder", "seed"],
)
def test_resume_with_other_settings_is_refused(
    small_pretrain: Pretrain, whole_run: Path, changes: dict, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        small_pretrain(whole_run, resume=True, **changes)


def test_store_that_does_not_fit_is_refused(
    tiny_config: LSM2Config, small_store: DayStore, tmp_path: Path
) -> None:
    for name, value in (("num_signals", 26), ("window_minutes", 1440)):
        with pytest.raises(InputError, match=f"{name} is {value} in the model configuration; store .* has"):
            pretrain(
                dataclasses.replace(tiny_config, **{name: value}),
                TrainConfig(),
                small_store,
                tmp_path / "run",
            )
    assert not (tmp_path / "run").exists()


# A first update of this size overflows the next forward pass: a loss that is really not finite.
EXPLODES = {"learning_rate": 1e30, "warmup_fraction": 0.0}


def test_non_finite_loss_stops_with_the_days(
    small_pretrain: Pretrain, small_store: DayStore, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError,
        match=r"step 2: loss or gradient is not finite; its days: p\d/2024-01-0\d.*non_finite = 'skip'",
    ):
        small_pretrain(tmp_path / "run", **EXPLODES)
    assert metrics(tmp_path / "run")[-1]["loss"] is None


def test_non_finite_loss_can_be_skipped(
    small_pretrain: Pretrain, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run = small_pretrain(
        tmp_path / "run", non_finite="skip", checkpoint_every=1, keep_checkpoints=8, **EXPLODES
    )
    assert [line["skipped"] for line in metrics(run)] == [False] + [True] * 7
    first, last = (load_file(run / f"checkpoints/step_0000000{step}/model.safetensors") for step in (1, 8))
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert "step 8: loss or gradient is not finite" in capsys.readouterr().err


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from lsm2.config import LSM2Config, TrainConfig
from lsm2.data import DayStore
from lsm2.training import pretrain
from dataclasses import replace
import json
config = json.loads(open(sys.argv[1] + "/config.json").read())
train = replace(TrainConfig(**config["train"]), **json.loads(sys.argv[3]))
store = DayStore.open(config["store"]["path"])
pretrain(LSM2Config.from_dict(config["model"]), train, store, sys.argv[2], resume=True)
"""


def start(like: Path, out: Path, *launcher: str, before: str = "", **changes: object) -> subprocess.Popen:
    script = out.parent / "train.py"
    script.write_text(before + SCRIPT)
    arguments = [str(like), str(out), json.dumps(changes)]
    environment = os.environ | {"PYTHONPATH": str(CLONE)}
    return subprocess.Popen(
        [sys.executable, *launcher, str(script), *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    for _ in range(1200):
        if condition() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert condition(), process.communicate()[1]


@pytest.mark.slow
@pytest.mark.subprocess
def test_killed_and_terminated_runs_continue_bit_exactly(small_pretrain: Pretrain, tmp_path: Path) -> None:
    long = {"steps": 400, "checkpoint_every": 5, "num_workers": 1}
    whole = small_pretrain(tmp_path / "whole", stop_after=20, **long)
    run = tmp_path / "run"
    killed = start(whole, run, **long)
    wait_for(lambda: (run / "checkpoints/step_00000005").exists(), killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = len((run / "metrics.jsonl").read_text().splitlines())
    assert done < 400

    terminated = start(whole, run, **long)
    wait_for(lambda: len((run / "metrics.jsonl").read_text().splitlines()) > done, terminated)
    terminated.send_signal(signal.SIGTERM)
    message = terminated.communicate(timeout=60)[1]
    assert terminated.returncode == 128 + signal.SIGTERM and "continue with --resume" in message
    last = len(metrics(run))
    assert [line["step"] for line in metrics(run)] == list(range(1, last + 1))
    assert (run / f"checkpoints/step_{last:08}/manifest.json").exists()
    # Both runs go to the same step, wherever the signal came.
    until = max(last, 20)
    small_pretrain(whole, stop_after=until, resume=True, **long)
    small_pretrain(run, stop_after=until, resume=True, **long)
    assert_same_run(run, whole, until)


FULL_DISK = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
"""


def test_an_error_ends_the_process_although_a_loader_works(small_pretrain: Pretrain, tmp_path: Path) -> None:
    whole = small_pretrain(tmp_path / "whole", steps=1)
    failing = start(whole, tmp_path / "run", before=FULL_DISK, steps=400, checkpoint_every=2, num_workers=2)
    message = failing.communicate(timeout=120)[1]
    assert failing.returncode == 1 and "File too large" in message


@pytest.mark.slow
@pytest.mark.subprocess
def test_a_killed_loader_process_ends_training_in_words(small_pretrain: Pretrain, tmp_path: Path) -> None:
    whole = small_pretrain(tmp_path / "whole", steps=1)
    run = tmp_path / "run"
    training = start(whole, run, steps=100_000, checkpoint_every=100_000, num_workers=3)
    wait_for(
        lambda: (
            (run / "metrics.jsonl").exists() and len((run / "metrics.jsonl").read_text().splitlines()) > 2
        ),
        training,
    )
    children = Path(f"/proc/{training.pid}/task/{training.pid}/children").read_text().split()
    loaders = [int(child) for child in children if b"train.py" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(loaders[0], signal.SIGKILL)
    message = training.communicate(timeout=120)[1]
    assert training.returncode == 1 and "continue with --resume" in message


def test_automatic_precision_is_settled_and_kept(
    small_pretrain: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(run: Path) -> str:
        return json.loads((run / "config.json").read_text())["train"]["precision"]

    fast = bfloat16_is_fast(torch.device("cpu"))
    run = small_pretrain(tmp_path / "run", precision="auto", stop_after=2)
    assert taken(run) == ("bf16" if fast else "fp32")
    monkeypatch.setattr("lsm2.model.precision.bfloat16_is_fast", lambda device: not fast)
    small_pretrain(run, precision="auto", resume=True)
    assert taken(run) == ("bf16" if fast else "fp32")
    assert taken(small_pretrain(tmp_path / "other", precision="auto", steps=1)) == (
        "fp32" if fast else "bf16"
    )


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_days": 5},  # 3 days on one rank, 2 on the other
        {"batch_days": 1},  # one rank has none
        {
            "batch_days": None,
            "tokens_per_batch": 130,
            "micro_batches": 2,
            "precision": "bf16",
            "activation_checkpointing": True,
        },
    ],
    ids=["5 days", "1 day", "token budget"],
)
def test_two_ranks_take_the_step_of_one(small_pretrain: Pretrain, tmp_path: Path, settings: dict) -> None:
    settings = settings | {"steps": 1}
    alone = small_pretrain(tmp_path / "alone", **settings)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    process = start(alone, tmp_path / "together", *launcher, **settings)
    assert process.wait(120) == 0, process.communicate()[1]
    (one,), (two,) = metrics(alone), metrics(tmp_path / "together")
    assert two["num_target"] == one["num_target"] and two["num_visible"] == one["num_visible"]
    # Days lie in other batches, so sums are taken in another order: roundings of float32 (24 bits) or
    # bfloat16 (8).
    rounding = 1e-5 if settings.get("precision") != "bf16" else 5e-3
    assert two["loss"] == pytest.approx(one["loss"], rel=rounding) and two["grad_norm"] == pytest.approx(
        one["grad_norm"], rel=rounding
    )
    moments = [
        load_file(path / "checkpoints/step_00000001/optimizer.safetensors")
        for path in (alone, tmp_path / "together")
    ]
    one, two = (
        torch.cat([values[name].flatten() for name in sorted(values) if name.endswith("exp_avg")])
        for values in moments
    )
    assert (two - one).norm() < 4 * rounding * one.norm()


@pytest.mark.parametrize("settings", [{}, {"micro_batches": 2}, {"tokens_per_batch": 60}], ids=str)
def test_a_start_reads_no_day_that_it_does_not_train_on(
    small_store: DayStore,
    small_pretrain: Pretrain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict,
) -> None:
    read: list[int] = []
    values = DayStore.values
    monkeypatch.setattr(DayStore, "values", lambda store, index: read.append(index) or values(store, index))
    changes = {"batch_days": None} if "tokens_per_batch" in settings else {"batch_days": 2}
    run = small_pretrain(tmp_path / "run", steps=1, **changes, **settings)
    config = json.loads((run / "config.json").read_text())
    assert 1 <= len(read) <= 2 and set(read) <= set(small_store.indices_of(config["train_subjects"]))


@pytest.mark.parametrize("fill_gaps", ["linear", "smooth"])
def test_a_run_on_filled_days_resumes_bit_for_bit_and_counts_what_was_filled(
    small_pretrain: Pretrain, tmp_path: Path, fill_gaps: str
):
    whole = small_pretrain(tmp_path / "whole", fill_gaps=fill_gaps)
    small_pretrain(tmp_path / "parts", fill_gaps=fill_gaps, stop_after=4)
    parts = small_pretrain(tmp_path / "parts", fill_gaps=fill_gaps, resume=True)
    for name in ("model.safetensors", "gap_fill.json", "config.json"):
        assert (whole / "model" / name).read_bytes() == (parts / "model" / name).read_bytes()
    line = json.loads((whole / "metrics.jsonl").read_text().splitlines()[0])
    aim = small_pretrain(tmp_path / "aim", stop_after=4)
    line_of_aim = json.loads((aim / "metrics.jsonl").read_text().splitlines()[0])
    # Every token has a measured sample, so the masks are alike: only what counts as a target differs.
    assert not (aim / "model" / "gap_fill.json").exists()
    assert line["loss"] != line_of_aim["loss"]
    with pytest.raises(InputError, match="fill_gaps"):
        small_pretrain(tmp_path / "parts", resume=True)


def test_a_run_of_before_there_were_filled_days_and_signal_codes_resumes(
    small_pretrain: Pretrain, tmp_path: Path
):
    run = small_pretrain(tmp_path / "run", stop_after=4, signal_codes="sincos")
    whole = small_pretrain(tmp_path / "whole", signal_codes="sincos")
    for file in (run / "config.json", run / "model" / "config.json"):
        config = json.loads(file.read_text())
        for name in ("fill_gaps", "signal_codes"):
            config.get("model", config).pop(name)
        file.write_text(json.dumps(config))
    assert LSM2.from_pretrained(run).config.signal_codes == "sincos"
    with pytest.raises(InputError, match=r"was trained with model\.signal_codes = 'sincos'"):
        small_pretrain(run, resume=True)
    assert_same_run(small_pretrain(run, resume=True, signal_codes="sincos"), whole)
