"""What a Postgres server tells of its version, its clock and its settings."""

from collections.abc import Callable

from askonce.core.finding import Finding
from askonce.stores.diagnosis import clock_of
from askonce.stores.postgres_binary import texts_of
from askonce.stores.postgres_link import Limits, Result, Statement
from askonce.stores.postgres_schema import Tables

_OLDEST = 15
_FEW_CONNECTIONS = 5
_MANY_DEAD = 100_000

_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::text"
_SETTINGS = """
SELECT current_setting('server_version'),
    (current_setting('server_version_num')::int / 10000)::text,
    pg_is_in_recovery()::text, current_setting('transaction_read_only'),
    (current_setting('max_connections')::int
        - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'))::text,
    coalesce((SELECT relpersistence::text FROM pg_class
        WHERE oid = to_regclass(convert_from($1, 'UTF8'))), ''),
    coalesce((SELECT n_dead_tup::text FROM pg_stat_user_tables
        WHERE relid = to_regclass(convert_from($1, 'UTF8'))), '0'),
    coalesce((SELECT n_live_tup::text FROM pg_stat_user_tables
        WHERE relid = to_regclass(convert_from($1, 'UTF8'))), '0'),
    coalesce((SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()), 'false')
"""


def findings_of(
    ask: Callable[[Statement], Result], tables: Tables, limits: Limits
) -> list[Finding]:
    """Look at the server. Raises StoreError."""
    result = ask(Statement(_SETTINGS, [tables.entries.encode()], limits))
    version, major, replica, read_only, room, kind, dead, live, tls = (
        texts_of(result, column)[0] for column in range(9)
    )
    findings = [
        _version(version, int(major)),
        clock_of(lambda: float(texts_of(ask(Statement(_CLOCK, [], limits)))[0])),
        _writable(replica=replica == "true", read_only=read_only == "on"),
        _connections(int(room)),
        Finding(
            "encryption",
            "the connection is encrypted (TLS)"
            if tls == "true"
            else "the connection is not encrypted; sslmode=verify-full in the URL insists on it",
        ),
    ]
    if kind == "u":
        findings.append(Finding("table", "unlogged: empty after a crash of the server"))
    if int(dead) > max(_MANY_DEAD, int(live)):
        findings.append(
            Finding(
                "space",
                f"{int(dead):,} deleted rows take room, beside {int(live):,} live ones",
                "doubtful",
                "is autovacuum on? askonce vacuum makes the room free",
            )
        )
    return findings


def _version(version: str, major: int) -> Finding:
    if major >= _OLDEST:
        return Finding("version", f"Postgres {version}")
    return Finding(
        "version",
        f"Postgres {version}",
        "doubtful",
        f"tested with {_OLDEST} and later: update the server",
    )


def _writable(*, replica: bool, read_only: bool) -> Finding:
    if not replica and not read_only:
        return Finding("role", "it takes writes")
    return Finding(
        "role",
        "it is a read-only replica" if replica else "its transactions are read-only by default",
        "wrong",
        "give the URL of the primary, or add target_session_attrs=read-write to it",
    )


def _connections(room: int) -> Finding:
    told = f"{max(0, room)} more connections are possible"
    if room >= _FEW_CONNECTIONS:
        return Finding("connections", told)
    return Finding(
        "connections",
        told,
        "doubtful",
        "lower the option 'connections', raise the server's max_connections, or put PgBouncer "
        "before it",
    )
