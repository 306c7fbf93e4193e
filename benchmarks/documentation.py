"""A real corpus: the prose of Debian's packages linux-doc and python3.11-doc."""

import gzip
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PLACES = (
    (Path("/usr/share/doc/python3.11/html/_sources"), "**/*.txt"),
    (Path("/usr/share/doc"), "linux-doc*/**/*.rst*"),
)
INSTALL = "apt-get install --no-install-recommends linux-doc python3.11-doc"
SHORTEST, LONGEST = 120, 600
"""Characters of a passage: shorter ones are headings and lists, longer ones tables and code."""

_MARKED_UP = re.compile(r"\s*(\.\.|::|[-=~*#+|>^]|\w{1,2}[.)]\s)")
_ROLE = re.compile(r":[\w:+-]+:(?=`)")
_QUOTED = re.compile(r"`+~?([^`<]+?)\s*(?:<[^`]*>)?`+_*")


def passages() -> list[str]:
    """Read all different paragraphs of prose. Exits if the packages are not installed."""
    found = dict.fromkeys(
        passage
        for folder, pattern in PLACES
        for path in sorted(folder.glob(pattern))
        if path.is_file()
        for passage in _prose(path)
    )
    if len(found) < 40_000:
        sys.exit(f"this benchmark reads Debian's documentation; install it: {INSTALL}")
    return list(found)


def _prose(path: Path) -> Iterator[str]:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for paragraph in re.split(r"\n\s*\n", content.decode(errors="replace")):
        if _MARKED_UP.match(paragraph):
            continue
        passage = " ".join(_QUOTED.sub(r"\1", _ROLE.sub("", paragraph)).split())
        if SHORTEST <= len(passage) <= LONGEST and passage.endswith("."):
            yield passage
