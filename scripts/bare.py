"""Prove that the wheel works with nothing but numpy: build it, install it alone, use it."""

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
        bare = Path(folder, "bare")
        run(sys.executable, "-m", "virtualenv", "--quiet", str(bare))
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, "--installer=uv", str(ROOT))
        (wheel,) = Path(folder).glob("*.whl")
        python = next(bare.glob("*/python"))
        run(sys.executable, "-m", "uv", "pip", "install", "-q", "--python", str(python), str(wheel))
        run(str(python), "-W", "error", "-c", USE)
    print("the bare wheel works")


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


main()
