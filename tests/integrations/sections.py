"""The guide to frameworks is run by each framework's own tests, for they cannot all be installed."""

import contextlib
import io
import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "cache-with-other-frameworks.md"
BLOCK = re.compile(r"^```(py|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_section(heading: str, folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the section's `py` blocks with OpenAI's address set; a `text` block is what one prints."""
    monkeypatch.chdir(folder)
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.setenv(name, address)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    text = GUIDE.read_text()
    start = text.index(f"\n## {heading}\n")
    end = text.find("\n## ", start + 1)
    blocks = BLOCK.findall(text[start:] if end < 0 else text[start:end])
    assert blocks
    namespace: dict[str, object] = {"__name__": "section"}
    printed = ""
    for language, content in blocks:
        if language == "text":
            assert printed == content
            continue
        with contextlib.redirect_stdout(io.StringIO()) as output:
            exec(compile(content, str(GUIDE), "exec"), namespace)
        printed = output.getvalue()
