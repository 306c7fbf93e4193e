"""A real server that speaks S3, on a free port of the loopback."""

import contextlib
import http.client
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import pytest

from tests.servers.ports import free_port

_PATIENCE = 60
_SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=somebody/20200101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}
"""The server looks for a signature, not at it."""


class S3Server:
    """Run one server, which keeps everything in memory and takes any credentials."""

    def __init__(self) -> None:
        program = pathlib.Path(sys.executable).with_name("moto_server")
        assert program.exists(), "install moto[s3,server]: these tests need the server in it"
        self.port = free_port()
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [program, "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, bucket: str, prefix: str = "", **options: str) -> str:
        """Write the URL of a store in a bucket of this server."""
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"s3://{bucket}{prefix}?endpoint={self.endpoint}&allow_http=true{more}"

    def make_bucket(self, name: str) -> str:
        status, _ = self.ask("PUT", f"/{name}")
        assert status == 200, status
        return name

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        with contextlib.closing(connection):
            connection.request(method, path, body, _SIGNED)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def log(self) -> str:
        """Give a line for every request so far."""
        self._log.seek(0)
        return re.sub(r"\x1b\[\d+m", "", self._log.read().decode())

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the process for as long as a block lasts, as if the network was gone."""
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _wait(self) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            assert self._process.poll() is None, self.log()
            try:
                self.ask("GET", "/moto-api/data.json")
                return
            except OSError:
                assert time.monotonic() < end, "the S3 server does not answer"
                time.sleep(0.02)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """Run a server for the session, with credentials for it in the environment."""
    server = S3Server()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        try:
            yield server
        finally:
            server.stop()
