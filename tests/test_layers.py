"""The arrows between rooms point down, and nothing heavy or optional is imported before it is used."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GROUND_FLOOR = ("errors", "config", "presets", "files", "rng", "progress", "run_folder")
ROOMS = (
    *GROUND_FLOOR,
    "data",
    "importers",
    "simulate",
    "model",
    "training",
    "evaluate",
    "report",
    "cli",
    "__main__",
)
OPTIONAL = {"matplotlib", "sklearn", "pandas", "polars", "triton"}
MAY_USE_KERNELS = {Path("lsm2/model/attention.py"), Path("lsm2/model/joint_days.py")}
DATA_LEAVES = {"signals", "tokens", "masking"}
MOST_LINES_OF_A_FILE = 300
MOST_FILES_OF_A_FOLDER = 14
BUDGETS = {("lsm2_kernels", "csrc"): 6_000, ("lsm2",): 14_500, ("benchmarks",): 6_500}
KERNELS_MAY_IMPORT = {
    "__init__": {"attention", "packing"},
    "attention": {"_ops", "packing"},
    "packing": {"_ops"},
    "_ops": {"triton", "reference"},
    "reference": set(),
    "triton": {"triton"},
}

FILES = sorted(
    path.relative_to(ROOT) for package in ("lsm2", "lsm2_kernels") for path in (ROOT / package).rglob("*.py")
)
BENCHMARKS = sorted(path.relative_to(ROOT) for path in (ROOT / "benchmarks").rglob("*.py"))


def imported(path: Path, only_at_import: bool = False) -> Iterator[str]:
    """Names of the modules that a file imports, anywhere or only when it is imported itself; `from a import
    b` gives a and a.b.
    """
    tree = ast.parse((ROOT / path).read_text())
    for node in _run_at_import(tree) if only_at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [
                        *path.parent.parts[: len(path.parent.parts) - node.level + 1],
                        *filter(None, [node.module]),
                    ]
                )
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        only_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not only_for_types and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield child
            yield from _run_at_import(child)


def room(path: Path) -> str:
    return path.parts[1].removesuffix(".py")


def of_package(package: str) -> list[Path]:
    return [path for path in FILES if path.parts[0] == package]


@pytest.mark.parametrize("path", of_package("lsm2"), ids=str)
def test_rooms_of_the_trainer_look_only_down(path):
    if room(path) == "__init__":
        return
    height = ROOMS.index(room(path))
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "lsm2" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) <= height, f"{path} imports {name}, which lies above it"


@pytest.mark.parametrize("path", of_package("lsm2"), ids=str)
def test_only_attention_reaches_down_to_the_kernels(path):
    uses = [name for name in imported(path) if name.split(".")[0] == "lsm2_kernels"]
    assert not uses or path in MAY_USE_KERNELS


def test_signals_tokens_and_masking_are_leaves_of_data():
    for leaf in DATA_LEAVES:
        siblings = {
            name.split(".")[2]
            for name in imported(Path(f"lsm2/data/{leaf}.py"))
            if name.startswith("lsm2.data.")
        }
        assert not siblings


@pytest.mark.parametrize("path", of_package("lsm2_kernels"), ids=str)
def test_kernels_know_no_model_and_keep_their_arrows(path):
    names = list(imported(path))
    assert not [name for name in names if name.split(".")[0] == "lsm2"]
    allowed = KERNELS_MAY_IMPORT.get(room(path))
    if allowed is not None:
        used = {name.split(".")[1] for name in names if name.startswith("lsm2_kernels.")}
        modules = {room(file) for file in of_package("lsm2_kernels")}
        assert used & modules <= allowed


@pytest.mark.parametrize("path", FILES, ids=str)
def test_nothing_optional_is_imported_before_use_and_nothing_imports_tests(path):
    if path.parts[:2] != ("lsm2_kernels", "triton"):
        assert not {name.split(".")[0] for name in imported(path, only_at_import=True)} & OPTIONAL
    assert not {name.split(".")[0] for name in imported(path)} & {"tests", "benchmarks", "conftest"}


@pytest.mark.parametrize("path", [*FILES, *BENCHMARKS], ids=str)
def test_files_have_a_purpose_and_a_readable_length(path):
    drawers = {"util", "utils", "helper", "helpers", "misc", "common"}
    assert not drawers & {part.removesuffix(".py") for part in path.parts}
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= MOST_LINES_OF_A_FILE
    assert ast.get_docstring(ast.parse(text)) or not text, f"{path} does not say what it is for"


def test_no_circle_of_imports():
    """A module that imports another reaches itself through no chain of imports, those for types alone
    included.
    """
    files = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in [*FILES, *BENCHMARKS]
    }
    arrows = {name: (set(imported(path)) & files.keys()) - {name} for name, path in files.items()}
    # A package's __init__ gathers what lies in it, and `from package import module` names it on the way.
    for name, targets in arrows.items():
        arrows[name] = {target for target in targets if not name.startswith(f"{target}.")}
    while leaves := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert not arrows, f"these import each other in a circle, or such a circle: {sorted(arrows)}"


def test_folders_are_small_enough_to_look_through():
    for folder in {path.parent for path in [*FILES, *BENCHMARKS]}:
        files = [path for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= MOST_FILES_OF_A_FOLDER, f"{folder} holds {len(files)} files"


@pytest.mark.parametrize("rooms", BUDGETS, ids=" + ".join)
def test_every_part_keeps_to_its_budget_of_lines(rooms):
    counts: Counter[str] = Counter()
    for part in rooms:
        for path in sorted((ROOT / part).rglob("*")):
            if path.suffix in {".py", ".cpp", ".h"}:
                place = path.relative_to(ROOT).parts
                counts["/".join(place[:-1][:2])] += len(path.read_text().splitlines())
    print(*(f"{count:6d}  {name}" for name, count in sorted(counts.items())), sep="\n")
    assert counts.total() <= BUDGETS[rooms], f"{' + '.join(rooms)} has {counts.total()} lines"
