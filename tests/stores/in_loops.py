"""A store that does in event loops all that can be done there."""

import asyncio
import contextlib
import sqlite3

from askonce.core.entry import NEVER
from askonce.core.flow import Write, arun
from askonce.stores.sqlite import SQLiteStore


class InLoop(SQLiteStore):
    """Do everything in loops that can be done there."""

    works_in_loops = True

    async def awrite(self, entries, *, expires=NEVER):
        if not self.write_at_once(entries, expires=expires):
            await super().awrite(entries, expires=expires)

    async def aread(self, keys):
        values = self.read_at_once(keys[0]) if len(keys) == 1 else None
        return await super().aread(keys) if values is None else values


def kept(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {
            key: (value, expires)
            for key, value, expires in connection.execute(
                "SELECT key, value, expires FROM askonce_entries"
            )
        }


def tell(store, entries):
    """Write as a flow does; give whether it is stored, and the kinds of events."""
    events = []

    def flow():
        return (yield Write(entries))

    stored = asyncio.run(arun(flow(), store=store, call=None, observe=events.append))
    return stored, [event.kind for event in events]
