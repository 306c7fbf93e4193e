"""Which server of a Redis to send a command to: the only one, a service's master, a slot's owner.

Flows are generators that yield what to send to which node and are sent the replies, so that
threads and event loops share them. An error reply stands in the place of the reply; a connection
that fails is thrown in.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, ReadOnlyError, RedisError, ResponseError

from askonce.stores.redis_address import Address, Node

T = TypeVar("T")

Command = tuple[bytes, ...]
Parts = Mapping[Node, Sequence[Command]]
Answers = Mapping[Node, list[Any]]
Flow = Generator[Parts, Answers, T]

_SLOTS = 16384
_REDIRECTIONS = 5
_KEY_PLACE = {b"EVAL": 3}
"""Where the key is in a command; in all others it comes first."""


class Topology(Protocol):
    """Know which server to send a command to."""

    at_once: int
    """How many keys a command may have; in a cluster they would have to be of one slot."""

    def masters(self) -> Flow[Sequence[Node]]:
        """Give the nodes that have all keys among them."""
        ...

    def send(self, commands: Sequence[Command]) -> Flow[list[Any]]:
        """Send commands and give their replies, in their order."""
        ...


def topology_of(address: Address) -> Topology:
    """Make what fits an address."""
    match address.kind:
        case "single":
            return Single(address.nodes[0])
        case "sentinel":
            return Watched(address.nodes, address.service)
        case "cluster":
            return Cluster(address.nodes)


class Single:
    """Send everything to one server."""

    at_once = 500

    def __init__(self, node: Node) -> None:
        self._nodes = (node,)

    def masters(self) -> Flow[Sequence[Node]]:
        yield from ()
        return self._nodes

    def send(self, commands: Sequence[Command]) -> Flow[list[Any]]:
        (node,) = self._nodes
        answers = yield {node: commands}
        return answers[node]


class Watched:
    """Send everything to the master of a service, which sentinels know."""

    at_once = 500

    def __init__(self, sentinels: Sequence[Node], service: str) -> None:
        otherwise = f"no sentinel knows the service {service!r}"
        self._guides = Guides(sentinels, otherwise=otherwise)
        self._service = service
        self._master: Node | None = None

    def masters(self) -> Flow[Sequence[Node]]:
        if self._master is None:
            command = (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service.encode())
            _, (host, port) = yield from self._guides.ask(command)
            self._master = Node(host.decode(), int(port))
        return (self._master,)

    def send(self, commands: Sequence[Command]) -> Flow[list[Any]]:
        (master,) = yield from self.masters()
        try:
            answers = yield {master: commands}
        except BaseException:
            self._master = None
            raise
        if any(isinstance(reply, ReadOnlyError) for reply in answers[master]):
            self._master = None  # another one took its place
        return answers[master]


class Cluster:
    """Send each command to the master of its key's slot, as the cluster itself says.

    redis-py's own client for clusters takes twice as long for a batch, and asks again and again
    when a node is lost; here a look-up may take only so long.
    """

    at_once = 1

    def __init__(self, seeds: Sequence[Node]) -> None:
        self._guides = Guides(seeds, otherwise="CLUSTERDOWN no node knows the slots")
        self._owners: list[Node] = []

    def masters(self) -> Flow[Sequence[Node]]:
        asked, reply = yield from self._guides.ask((b"CLUSTER", b"SLOTS"))
        self._owners = _owners(reply, asked)
        masters = sorted(set(self._owners))
        self._guides.know(masters)
        return masters

    def send(self, commands: Sequence[Command]) -> Flow[list[Any]]:
        if not self._owners:
            yield from self.masters()
        owners = self._owners
        slots = [key_slot(command[_KEY_PLACE.get(command[0], 1)]) for command in commands]
        places: dict[Node, list[int]] = {}
        for place, slot in enumerate(slots):
            places.setdefault(owners[slot], []).append(place)
        replies: list[Any] = [None] * len(commands)
        asking: set[int] = set()
        for _ in range(_REDIRECTIONS):
            yield from self._fill(replies, commands, places, asking)
            elsewhere: dict[Node, list[int]] = {}
            asking = set()
            for node, mine in places.items():
                for place in mine:
                    reply = replies[place]
                    if isinstance(reply, AskError):  # or MovedError, which is one
                        target = Node(reply.host or node.host, reply.port)
                        elsewhere.setdefault(target, []).append(place)
                        if isinstance(reply, MovedError):
                            owners[slots[place]] = target
                        else:
                            asking.add(place)
            places = elsewhere
            if not places:
                break
        return replies

    def _fill(
        self,
        replies: list[Any],
        commands: Sequence[Command],
        places: Mapping[Node, Sequence[int]],
        asking: set[int],
    ) -> Flow[None]:
        """Send the commands in these places and put the replies there."""
        try:
            answers = yield {
                node: _prepare(commands, mine, asking) for node, mine in places.items()
            }
        except BaseException:
            self._owners = []
            raise
        for node, mine in places.items():
            found = iter(answers[node])
            for place in mine:
                if place in asking:
                    next(found)
                replies[place] = next(found)


class Guides:
    """Ask servers that know where the data is, one after the other until one answers."""

    def __init__(self, nodes: Sequence[Node], *, otherwise: str) -> None:
        self._nodes = list(nodes)
        self._otherwise = otherwise

    def know(self, nodes: Sequence[Node]) -> None:
        """Ask these too from now on, after those that are known."""
        self._nodes = list(dict.fromkeys([*self._nodes, *nodes]))

    def ask(self, command: Command) -> Flow[tuple[Node, list[Any]]]:
        """Give who answered with a list, and the list."""
        trouble: Exception = ResponseError(self._otherwise)
        for node in self._nodes:
            # If all the time there is goes by until it answers, it comes last the next time.
            self._nodes = [*(other for other in self._nodes if other != node), node]
            try:
                (reply,) = (yield {node: [command]})[node]
            except (RedisError, OSError) as error:
                trouble = error
                continue
            if isinstance(reply, list) and reply:
                self._nodes = [node, *(other for other in self._nodes if other != node)]
                return node, reply
            if isinstance(reply, Exception):
                trouble = reply
        raise trouble


def _prepare(commands: Sequence[Command], places: Sequence[int], asking: set[int]) -> list[Command]:
    """Put ASKING before the commands that a node takes only if it is asked to."""
    if not asking:
        return [commands[place] for place in places]
    prepared: list[Command] = []
    for place in places:
        if place in asking:
            prepared.append((b"ASKING",))
        prepared.append(commands[place])
    return prepared


def _owners(reply: list[Any], asked: Node) -> list[Node]:
    owners: list[Node | None] = [None] * _SLOTS
    for first, last, (host, port, *_), *_ in reply:
        node = Node(host.decode() if host else asked.host, port)
        owners[first : last + 1] = [node] * (last + 1 - first)
    found = [node for node in owners if node is not None]
    if len(found) < _SLOTS:
        raise ResponseError("CLUSTERDOWN not all slots have a master")
    return found
