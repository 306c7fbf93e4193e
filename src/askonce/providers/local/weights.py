"""Which weights a model has."""

import hashlib
from pathlib import Path

_SUFFIXES = frozenset(
    {".bin", ".json", ".model", ".onnx", ".onnx_data", ".pt", ".safetensors", ".txt"}
)


def digest_of(folder: Path) -> str:
    """Digest the files of a model: weights, vocabulary and settings, with their names.

    SHA-256 of each, some tenths of a second for 100 MB.
    """
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            name = hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest()
            total.update(name + content)
    return total.hexdigest()
