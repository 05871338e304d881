"""Reading a store's manifest, and the words for what is wrong with a store's files."""

from __future__ import annotations

import glob
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsm2.data.store.layout import FORMAT, FORMAT_VERSION, MANIFEST, manifest_sha256
from lsm2.errors import InputError

RESTORE = "restore it from a copy, or write the store again"


def entries(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All files of a store that its manifest describes."""
    return [manifest["days"], manifest["moments"], manifest["observed"], *manifest["shards"]]


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the store at `path`; raises InputError where it cannot be used."""
    if not path.exists():
        kept = sorted(path.parent.glob(f".{glob.escape(path.name)}.replaced-*"))
        remedy = "`lsm2 simulate` or `lsm2 import` writes one"
        if kept:
            remedy = f"a writer that was killed left the former one in {kept[-1]}: rename that to {path.name}"
        raise InputError(f"store {path} does not exist; {remedy}")
    file = path / MANIFEST
    if not file.is_file():
        raise InputError(
            f"{path} is not a DayStore: it has no {MANIFEST}; give the folder that `lsm2 simulate` or `lsm2 "
            "import` wrote"
        )
    try:
        manifest = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} cannot be read ({error}); {RESTORE}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(
            f"{file} does not describe a DayStore; give the folder that `lsm2 simulate` or `lsm2 import` "
            "wrote"
        )
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        remedy = "use the lsm2 that wrote it, or a newer one"
        if version == 1:
            remedy = "write the store again with `lsm2 import` or `lsm2 simulate`"
        raise InputError(f"{file} has format_version {version!r}, this lsm2 reads {FORMAT_VERSION}; {remedy}")
    if manifest.get("sha256") != manifest_sha256(manifest):
        raise InputError(f"{file} was changed after it was written (its sha256 differs); {RESTORE}")
    for entry in entries(manifest):
        if Path(entry["file"]).name != entry["file"]:
            raise InputError(f"{file} names {entry['file']!r}, which is not a file of this folder; {RESTORE}")
    return manifest


def check_size(file: Path, size: int) -> None:
    """Raise InputError for a file that is missing or of another size than when it was written."""
    if not file.is_file():
        raise InputError(f"{file} is missing from the store; {RESTORE}")
    if file.stat().st_size != size:
        raise InputError(f"{file} has {file.stat().st_size} bytes instead of {size}; {RESTORE}")


def damaged(file: Path) -> str:
    """What to say of a file whose bytes have changed."""
    return f"{file} is damaged (its sha256 differs from the manifest's); {RESTORE}"
