"""Processors of one name are told apart by family, model and instruction set."""

from __future__ import annotations

import pytest
import torch

from benchmarks.measure.environment import describe_machine, name_cpu, name_machine

ZEN_4 = {"cpu family": "25", "model": "17", "stepping": "1", "flags": "sse avx2 avx512f avx512_bf16"}
ZEN_3 = {"cpu family": "25", "model": "1", "stepping": "1", "flags": "sse avx2"}


def cpuinfo(tmp_path, facts, name="AMD EPYC"):
    lines = [f"{key}\t: {value}" for key, value in {"model name": name, **facts}.items()]
    file = tmp_path / "cpuinfo"
    file.write_text("\n".join(lines) + "\n\n" + "model name : another core\n")
    return file


def test_zen_3_and_zen_4_are_two_machines(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    new = name_cpu(cpuinfo(tmp_path, ZEN_4))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    old = name_cpu(cpuinfo(tmp_path, ZEN_3))
    assert new.startswith("AMD EPYC, family 25 model 17 stepping 1, avx512_bf16, ")
    assert old.startswith("AMD EPYC, family 25 model 1 stepping 1, avx2, ")


def test_a_processor_held_to_less_is_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert "avx512_bf16, torch held to AVX2, " in name_cpu(cpuinfo(tmp_path, ZEN_4))


@pytest.mark.parametrize(
    ("flag", "name"), [("amx_bf16 avx512_bf16 avx512f", "amx"), ("avx512f avx2", "avx512"), ("asimd", "neon")]
)
def test_the_best_instruction_set_is_named(tmp_path, flag, name):
    assert f", {name}, " in name_cpu(cpuinfo(tmp_path, {"flags": flag}))


def test_a_machine_without_cpuinfo_has_a_name(tmp_path):
    assert "cores" in name_cpu(tmp_path / "absent")


def test_what_is_saved_names_machine_versions_and_commit():
    machine = describe_machine()
    assert {"machine", "driver", "versions", "commit", "torch_threads", "cpu kernels", "state"} <= set(
        machine
    )
    assert name_machine(machine) == f"{machine['machine']}, torch {torch.__version__}"
