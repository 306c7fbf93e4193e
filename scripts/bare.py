"""Prove that the wheel works with nothing but numpy: build it, install it alone, use it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
USE = """
import askonce, sys
cache = askonce.EmbeddingCache(lambda texts: [[1.0, 2.0] for _ in texts], model="m", store="memory://")
assert cache.embed(["a", "b", "a"]).shape == (3, 2)
extras = {"click", "rich", "lmdb", "langchain_core"} & set(sys.modules)
assert not extras, extras
try:
    askonce.open_store("lmdb:///x")
except askonce.MissingExtraError as error:
    assert "pip install 'askonce[lmdb]'" in str(error)
else:
    raise AssertionError("lmdb is here, so this environment is not bare")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = str(Path(folder, "site"))
        pip("wheel", "--no-deps", "--wheel-dir", folder, str(ROOT))
        (wheel,) = Path(folder).glob("*.whl")
        pip("install", "--target", site, str(wheel))
        # -S: only the folder just filled is seen, not the environment around it.
        command = [sys.executable, "-S", "-W", "error", "-c", USE]
        run(command, os.environ | {"PYTHONPATH": site})
    print("the bare wheel works")


def pip(*arguments: str) -> None:
    run([sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments], os.environ)


def run(command: list[str], environment) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


main()
