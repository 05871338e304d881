"""pip's build fails with the cause and the remedy, leaves kernels out only when asked, and ships types."""

import os
import shutil
import subprocess
import sys
import venv
from email.parser import Parser
from pathlib import Path

import pytest

pytest.importorskip(
    "scikit_build_core", reason="scikit-build-core is not installed: pip install scikit-build-core"
)

ROOT = Path(__file__).parents[2]
WITHOUT_KERNELS = "--config-settings=wheel.cmake=false"

pytestmark = pytest.mark.subprocess


def pip_install(
    target: Path, *options: str, python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Builds with the installed scikit-build-core, and downloads nothing."""
    offline = ["--no-build-isolation", "--no-deps", "--no-index"]
    command = [python, "-m", "pip", "install", *offline, "--target", str(target), str(ROOT), *options]
    return subprocess.run(command, env=os.environ | environment, cwd=target, capture_output=True, text=True)


def refusal(done: subprocess.CompletedProcess[str], target: Path) -> str:
    """What a build says that must have failed, its white space made single spaces."""
    assert done.returncode != 0, done.stdout
    assert not list(target.iterdir())
    return " ".join((done.stdout + done.stderr).split())


@pytest.fixture(scope="module")
def without_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("without_kernels")
    done = pip_install(target, WITHOUT_KERNELS)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def test_no_compiler_fails_and_names_one(tmp_path: Path) -> None:
    said = refusal(pip_install(tmp_path, CXX="/bin/false"), tmp_path)
    assert "No working C++ compiler" in said
    assert "apt install g++" in said
    assert f"pip install . {WITHOUT_KERNELS}" in said


@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler on this machine"
)
def test_no_torch_fails_and_says_how_to_install_it(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    # An empty environment: the build finds its tools on PYTHONPATH, but does not look for torch there.
    venv.create(tmp_path / "venv")
    python = str(tmp_path / "venv" / "bin" / "python")
    done = pip_install(target, python=python, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    said = refusal(done, target)
    assert f"No torch >= 2.10 in {tmp_path}" in said
    assert 'pip install "torch>=2.10" pip install .' in said
    assert "python -m build --no-isolation" in said
    assert f"pip install . {WITHOUT_KERNELS}" in said


def test_kernels_are_left_out_only_when_asked(without_kernels: Path) -> None:
    assert (without_kernels / "lsm2_kernels" / "__init__.py").exists()
    assert not list(without_kernels.rglob("*.so"))
    use = (
        "import torch, lsm2_kernels as l; x = torch.ones(3, 1, 8);"
        " print(l.__file__); l.varlen_attention(x, x, x, torch.tensor([0, 3]))"
    )
    for arguments in (["-m", "lsm2_kernels"], ["-c", use]):
        environment = os.environ | {"PYTHONPATH": str(without_kernels)}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, cwd=without_kernels, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert str(without_kernels / "lsm2_kernels") in done.stdout
        assert "lsm2_kernels_cpu.so, are not installed" in done.stdout + done.stderr
        assert "pip install --force-reinstall --no-deps ." in done.stdout + done.stderr


def test_types_ship_with_both_packages(without_kernels: Path) -> None:
    for package in ("lsm2_kernels", "lsm2"):
        assert (without_kernels / package / "py.typed").exists()


def test_metadata_describes_the_package(without_kernels: Path) -> None:
    (metadata,) = without_kernels.glob("*.dist-info/METADATA")
    fields = Parser().parsestr(metadata.read_text())
    assert fields["Summary"].startswith("Attention that computes only the tokens that are present")
    assert fields["Project-URL"] == "Paper, https://arxiv.org/abs/2506.05321"
    assert "Typing :: Typed" in fields.get_all("Classifier", [])
    assert "attention" in fields["Keywords"]
