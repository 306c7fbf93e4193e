"""Workers that die, configurations that are read anew, more connections than allowed."""

import concurrent.futures
import contextlib
import os
import pathlib
import signal
import threading

import httpx2

from tests.gateway.failures.asking import PATIENCE, ask, is_hit, until
from tests.gateway.failures.steered import Halves, proper
from tests.gateway.raw import talk
from tests.gateway.running import configured, gateway
from tests.http import server as servers


def workers_of(process):
    found = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(pid)
        for pid in found
        if b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def worker_that_asks(pids, port):
    """Tell which of some processes asks from a port of this machine."""
    wanted = f":{port:04X}"
    inodes = {
        line.split()[9]
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(wanted) and line.split()[3] == "01"
    }
    for pid in pids:
        for handle in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                name = os.readlink(handle)
                if name.startswith("socket:[") and name[8:-1] in inodes:
                    return pid
    raise AssertionError("nobody asks")


def test_a_worker_that_dies_while_it_asks_is_replaced_and_so_is_its_question(tmp_path, steered):
    with servers.running(steered) as provider:
        config = configured(tmp_path, provider.address)
        with gateway(config, "--workers", "2") as running:
            until(lambda: len(workers_of(running.process)) == 2, "both workers are there")
            prompt = "while it leads"
            begun = threading.Event()
            ports = []

            def hangs_first(asked):
                if ports:
                    return proper(asked)
                ports.append(asked.port)
                begun.set()
                return [servers.Hang]

            steered.steps[prompt] = hangs_first

            def persistent(_):
                # Who was on the one that died asks again, as the SDKs do.
                while True:
                    with contextlib.suppress(httpx2.TransportError):
                        return ask(running, prompt)

            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                first = pool.submit(persistent, 0)
                assert begun.wait(PATIENCE)
                others = [pool.submit(persistent, number) for number in range(7)]
                leader = worker_that_asks(workers_of(running.process), ports[0])
                os.kill(leader, signal.SIGKILL)
                replies = [one.result(PATIENCE) for one in (first, *others)]
            assert {reply.status_code for reply in replies} == {200}
            assert all("answer to while it leads" in reply.text for reply in replies)
            assert steered.count(provider, prompt) == 2
            until(
                lambda: len(set(workers_of(running.process)) - {leader}) == 2
                and running.get("/healthz")[0] == 200,
                "there are two workers again",
            )
            assert is_hit(ask(running, prompt))


def test_reloading_again_and_again_ends_no_stream(tmp_path, steered, provider):
    config = configured(tmp_path, provider.address)
    halves = Halves()
    prompts = [f"reloaded {number}" for number in range(5)]
    steered.steps |= dict.fromkeys(prompts, halves)
    with gateway(config) as running, concurrent.futures.ThreadPoolExecutor() as pool:
        under_way = []
        for prompt in prompts:
            under_way.append(pool.submit(ask, running, prompt, stream=True))
            assert halves.begun.acquire(timeout=PATIENCE)
            read = sum("read anew" in line for line in running.log)
            running.reload()
            until(
                lambda read=read: ask(running, "meanwhile").status_code == 200
                and sum("read anew" in line for line in running.log) > read,
                "the configuration is read anew",
            )
        halves.go_on.set()
        for prompt, one in zip(prompts, under_way, strict=True):
            reply = one.result()
            assert reply.status_code == 200 and "[DONE]" in reply.text
        for prompt in prompts:
            assert is_hit(ask(running, prompt, stream=True))


def test_more_connections_than_allowed_are_told_so(tmp_path, provider):
    more = "[server]\nmax_connections = 10\nheader_timeout = 30"
    with gateway(configured(tmp_path, provider.address, more)) as running:
        with contextlib.ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(talk(running.address, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX"))
            with talk(running.address, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n") as opened:
                found = opened.answer()
            assert found is not None and found.status == 503
            assert found.headers["connection"] == "close"
        until(lambda: ask(running, "room again").status_code == 200, "there is room again")
