"""Leases in a Postgres table, for processes on any number of hosts."""

from collections.abc import Callable, Sequence

from askonce.core.lease import DEFAULT_SECONDS, Leases
from askonce.stores.postgres_binary import float8, text_array, texts_of
from askonce.stores.postgres_link import Limits, Result, Statement

_AT_ONCE = 1000
_UNTIL = "clock_timestamp() + $3::float8 * interval '1 second'"
_MINE = "key = ANY($1::text[]) AND holder = convert_from($2, 'UTF8')"


class PostgresLeases(Leases):
    """Keep leases in a table, by the clock of the server alone, bound to no connection.

    A call waits for claims and releases, within `asked`; `renewed` limits what a thread does aside.
    Rows are locked in the order of their keys, so that two who want the same never block each
    other for good.
    """

    def __init__(
        self,
        ask: Callable[[Statement], Result],
        table: str,
        *,
        asked: Limits,
        renewed: Limits,
        seconds: float = DEFAULT_SECONDS,
    ) -> None:
        super().__init__(seconds)
        self._ask = ask
        self._asked = asked
        self._renewed = renewed
        self._take = (
            f"INSERT INTO {table} AS lease (key, holder, until) "
            f"SELECT unnest($1::text[]), convert_from($2, 'UTF8'), {_UNTIL} "
            "ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, until = excluded.until "
            "WHERE lease.holder = excluded.holder OR lease.until <= clock_timestamp() "
            "RETURNING key"
        )
        locked = f"SELECT key FROM {table} WHERE {_MINE} ORDER BY key FOR UPDATE"  # noqa: S608
        self._renew = (
            f"UPDATE {table} AS lease SET until = {_UNTIL} "  # noqa: S608
            f"FROM ({locked}) AS mine WHERE lease.key = mine.key"
        )
        self._drop = (
            f"DELETE FROM {table} AS lease USING ({locked}) AS mine WHERE lease.key = mine.key"  # noqa: S608
        )

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        values = (holder.encode(), float8(seconds))
        taken: set[str] = set()
        for part in _parts(keys):
            statement = Statement(self._take, (text_array(part), *values), self._asked)
            taken.update(texts_of(self._ask(statement)))
        return [key for key in keys if key in taken]

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        values = (holder.encode(), float8(seconds))
        for part in _parts(keys):
            self._ask(Statement(self._renew, (text_array(part), *values), self._renewed))

    def drop(self, keys: Sequence[str], holder: str) -> None:
        for part in _parts(keys):
            self._ask(Statement(self._drop, (text_array(part), holder.encode()), self._asked))


def _parts(keys: Sequence[str]) -> list[list[str]]:
    ordered = sorted(set(keys))
    return [ordered[start : start + _AT_ONCE] for start in range(0, len(ordered), _AT_ONCE)]
