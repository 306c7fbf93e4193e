"""A process that counts together with others, and writes what all have counted when asked to."""

import os
import sys

from askonce.events import Event
from askonce.observe.prometheus import Metrics

metrics = Metrics()
observe = metrics.observer(route="a")
for line in sys.stdin:
    if line == "scrape\n":
        body, _ = metrics.expose()
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.write(b"# EOF\n")
    elif line == "die\n":
        os._exit(1)
    else:
        observe(Event("hit", int(line), "team", "gpt-4o-mini", input_tokens=10, output_tokens=1))
        metrics.request(route="a", status=200, outcome="hit", seconds=0.001)
        print("counted")
    sys.stdout.flush()
