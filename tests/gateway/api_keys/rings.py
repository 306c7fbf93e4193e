"""What a ring of keys finds, and what its store holds."""

import hashlib
import json

from askonce.gateway.api_keys import PREFIX, KeyRing

NOW = 1_800_000_000.0


async def found(ring, secret, now=NOW):
    """Ask in both colours, with a ring of its own for one of them."""
    both = [KeyRing(ring._store).find(secret, now=now), await ring.afind(secret, now=now)]
    assert both[0] == both[1]
    return both[0]


def stored(store):
    keys = list(store.keys())
    return dict(zip(keys, store.read(keys), strict=True))


def rewrite(store, key, change):
    """Write a record as another version might: with a digest that fits."""
    (value,) = store.read([PREFIX + key.id])
    told = json.loads(value.partition(b"\n")[2])
    change(told)
    body = json.dumps(told).encode()
    head = b"ASKKEY1 " + hashlib.sha256(body).hexdigest().encode()
    store.write({PREFIX + key.id: head + b"\n" + body})
