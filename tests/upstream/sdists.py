"""The tests of installed LangChain packages, from their source distributions."""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).parent.parent.parent / ".cache" / "upstream"


def unpacked(distribution: str) -> Path:
    """Give the folder that holds the tests of the installed version, downloaded once."""
    release = f"{distribution.replace('-', '_')}-{version(distribution)}"
    folder = CACHE / release
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            _unpack(_download(distribution, Path(work)), Path(work))
            try:
                os.rename(Path(work, release), folder)
            except OSError:  # Another process was faster.
                if not folder.exists():
                    raise
    return folder


def _download(distribution: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--no-binary", distribution, "--dest", str(folder)]
    command.append(f"{distribution}=={version(distribution)}")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"cannot download the tests of {distribution}:\n{done.stderr}")
    (archive,) = folder.glob("*.tar.gz")
    return archive


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        tests = [member for member in tar if member.name.split("/")[1:2] == ["tests"]]
        # Older interpreters have no filters, and the newest want one.
        wanted = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(folder, tests, **wanted)
    archive.unlink()
