"""Figures of a run: they are written, all in one width."""

import struct
from pathlib import Path

from lsm2.report.figures import DPI, WIDTH, plot_gap_error, plot_loss, plot_task_errors


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_figures_of_an_evaluation_are_drawn(tmp_path, made_up_evaluation):
    plot_gap_error(tmp_path / "gap.png", made_up_evaluation())
    plot_task_errors(tmp_path / "tasks.png", made_up_evaluation())
    plot_loss(
        tmp_path / "loss.png",
        [{"step": 1, "loss": 1.0}, {"step": 2, "loss": float("nan")}, {"step": 3, "loss": 0.5}],
    )
    score = {"task": "gap 60 min", "error": 0.9, "best_fill": "smooth", "fill_error": 0.6}
    losses = [{"step": step, "loss": 1 / step} for step in range(1, 4)]
    plot_loss(tmp_path / "bare.png", losses)
    plot_loss(tmp_path / "validated.png", [*losses, {"step": 2, "validation": [score]}])
    assert (tmp_path / "validated.png").read_bytes() != (tmp_path / "bare.png").read_bytes()
    for name in ("gap", "tasks", "loss"):
        assert png_size(tmp_path / f"{name}.png")[0] == WIDTH * DPI
