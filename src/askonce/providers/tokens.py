"""How many tokens a text is, well enough to cut batches by."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

_TIKTOKEN_MODELS = ("text-embedding-3-", "text-embedding-ada-")
_TIKTOKEN_ENCODING = "cl100k_base"
_TIKTOKEN_TABLE = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"

_BYTES_PER_TOKEN = 2
"""English prose has about 4, Chinese 3, source code 3, digits and base64 somewhat under 2."""

_LONGEST_COUNTED = 100_000


def estimate(text: str) -> int:
    """Guess on the high side, from the length in UTF-8."""
    return len(text.encode()) // _BYTES_PER_TOKEN + 1


def counter(model: str) -> Callable[[str], int]:
    """Choose how to count this model's tokens.

    By tiktoken for OpenAI's models, if it is installed and its table is on this machine already
    (it would fetch it otherwise), else by estimate. Either raises UnicodeEncodeError or counts.
    """
    if not model.startswith(_TIKTOKEN_MODELS) or find_spec("tiktoken") is None:
        return estimate
    if not _table().is_file():
        return estimate
    import tiktoken  # noqa: PLC0415  optional, and slow to import

    encoding = tiktoken.get_encoding(_TIKTOKEN_ENCODING)

    def count(text: str) -> int:
        if len(text) > _LONGEST_COUNTED:
            return estimate(text)
        return len(encoding.encode_ordinary(text))

    return count


def _table() -> Path:
    """Tell where tiktoken keeps its copy of the table."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    name = hashlib.sha1(_TIKTOKEN_TABLE.encode(), usedforsecurity=False).hexdigest()
    return Path(folder or Path(tempfile.gettempdir(), "data-gym-cache"), name)
