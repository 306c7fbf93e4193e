"""What an SQLite file tells of its settings."""

import sqlite3

from askonce.core.finding import Finding

_MUCH = 64 * 2**20
"""Bytes of free pages, above which it is worth to give them back."""


def findings_of(connection: sqlite3.Connection) -> list[Finding]:
    """Look at the version, the journal, the pages."""

    def ask(name: str) -> int | str:
        value: int | str = connection.execute(f"PRAGMA {name}").fetchone()[0]
        return value

    journal, page_size = ask("journal_mode"), int(ask("page_size"))
    pages, free = int(ask("page_count")), int(ask("freelist_count"))
    mapped = connection.execute("PRAGMA mmap_size").fetchone()
    return [
        Finding("version", f"SQLite {sqlite3.sqlite_version}"),
        _journal(str(journal)),
        Finding("pages", f"{pages:,} of {page_size:,} bytes"),
        *_free(free, pages, page_size),
        *_unmapped(pages * page_size, mapped),
    ]


def _journal(mode: str) -> Finding:
    if mode == "wal":
        return Finding("journal", "write-ahead: many read while one writes")
    return Finding(
        "journal",
        f"its mode is {mode}: who reads and who writes keep each other waiting",
        "wrong",
        "is its file system a network's, or of a virtual machine's host? Move it to a local disk",
    )


def _free(free: int, pages: int, page_size: int) -> list[Finding]:
    if free * page_size < _MUCH or free < pages / 2:
        return []
    told = f"{free * page_size / 2**20:,.0f} MiB of the file are free for what comes next"
    return [Finding("space", told, "doubtful", "if that is too much, askonce vacuum gives it back")]


def _unmapped(size: int, mapped: tuple[int] | None) -> list[Finding]:
    """Tell of a part that SQLite copies to read; without a map, all of it is, and nothing to do."""
    if not mapped or not mapped[0] or size <= mapped[0]:
        return []
    told = f"{size / 2**20:,.0f} MiB, of which SQLite reads {mapped[0] / 2**20:,.0f} MiB fast"
    return [
        Finding("size", told, "doubtful", "if reads take too long, askonce copy it to lmdb:///")
    ]
