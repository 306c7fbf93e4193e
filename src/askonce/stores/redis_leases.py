"""Leases in a Redis, whose own clock alone tells when one runs out."""

from collections.abc import Iterator, Sequence

from askonce.core.keys import utf8_each
from askonce.core.lease import DEFAULT_SECONDS, Leases
from askonce.stores.redis_errors import check
from askonce.stores.redis_server import RedisServer
from askonce.stores.redis_topology import Command, Flow

# A time that is over is none at all: then a key is nobody's and not kept either.
_TAKE = b"""
local taken = {}
for place, key in ipairs(KEYS) do
  local free
  if tonumber(ARGV[2]) > 0 then
    free = redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2])
  else
    free = redis.call('EXISTS', key) == 0
  end
  if free or redis.call('GET', key) == ARGV[1] then taken[#taken + 1] = place end
end
return taken
"""
# What ran out and was taken by nobody is still the holder's, as soon as it is back.
_RENEW = b"""
for _, key in ipairs(KEYS) do
  local holder = redis.call('GET', key)
  if not holder or holder == ARGV[1] then redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
end
"""
_DROP = b"""
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
"""


class RedisLeases(Leases):
    """Keep each lease in a key of its own, which the server forgets when the lease runs out."""

    def __init__(
        self, server: RedisServer, prefix: bytes, seconds: float = DEFAULT_SECONDS
    ) -> None:
        super().__init__(seconds)
        self._server = server
        self._prefix = prefix

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        places = self._server.run(self._take(keys, holder, seconds), lookup=True)
        return [keys[place] for place in places]

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        self._server.run(self._change(_RENEW, keys, holder, seconds))

    def drop(self, keys: Sequence[str], holder: str) -> None:
        self._server.run(self._change(_DROP, keys, holder, 0.0))

    def _take(self, keys: Sequence[str], holder: str, seconds: float) -> Flow[list[int]]:
        replies = yield from self._server.topology.send(
            list(self._commands(_TAKE, keys, holder, seconds))
        )
        check(replies)
        at_once = self._server.topology.at_once
        return [
            part * at_once + place - 1 for part, places in enumerate(replies) for place in places
        ]

    def _change(
        self, script: bytes, keys: Sequence[str], holder: str, seconds: float
    ) -> Flow[None]:
        replies = yield from self._server.topology.send(
            list(self._commands(script, keys, holder, seconds))
        )
        check(replies)

    def _commands(
        self, script: bytes, keys: Sequence[str], holder: str, seconds: float
    ) -> Iterator[Command]:
        """Write commands for so many keys at once as there may be in one."""
        at_once = self._server.topology.at_once
        names = [self._prefix + key for key in utf8_each(keys)]
        arguments = (holder.encode(), b"%d" % int(seconds * 1000))
        for start in range(0, len(names), at_once):
            part = names[start : start + at_once]
            yield (b"EVAL", script, b"%d" % len(part), *part, *arguments)
