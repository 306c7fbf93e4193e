"""A server that speaks as much of Google's XML API as the engine of `gs://` asks for.

The emulators that a test can install speak the JSON API and know no conditions. This one follows
Google's documentation of lists, ranges, generations and preconditions, and is not lenient: tokens
are verified, and what it does not know is an error.
"""

import base64
import contextlib
import datetime
import email.utils
import hashlib
import json
import pathlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

_PAGE = 20
"""Names in a reply; Google gives up to 1,000, and may give fewer."""

_KNOWN = {"list-type", "prefix", "continuation-token", "max-keys"}


@dataclass(frozen=True)
class Object:
    content: bytes
    generation: int
    modified: float

    @property
    def tag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'


class Account:
    """Be a service account: a private key, and the file that has it."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def file(self, **settings: object) -> str:
        """Give what Google lets an owner download."""
        secret = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return json.dumps(
            {
                "type": "service_account",
                "client_email": "somebody@project.iam.gserviceaccount.com",
                "private_key_id": "1",
                "private_key": secret.decode(),
                **settings,
            }
        )

    def signed(self, token: str) -> bool:
        """Tell whether a token is signed with the key."""
        signed, _, signature = token.rpartition(".")
        try:
            self._key.public_key().verify(
                base64.urlsafe_b64decode(signature + "=="),
                signed.encode(),
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        except (InvalidSignature, ValueError):
            return False
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        return claims["iat"] <= time.time() + 60 and time.time() < claims["exp"]


class GCSServer:
    """Run one server in a thread, which keeps everything in memory and knows one account."""

    def __init__(self) -> None:
        self.account = Account()
        self.buckets: dict[str, dict[str, Object]] = {}
        self.log: list[str] = []
        self.refusals: list[int] = []
        """The statuses of the replies to come, instead of what was asked for."""
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.gcs = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def url(self, bucket: str, prefix: str = "", **options: str) -> str:
        """Write the URL of a store in a bucket of this server."""
        more = "".join(f"&{name}={value}" for name, value in options.items())
        return f"gs://{bucket}{prefix}?endpoint={self.endpoint}&allow_http=true{more}"

    def make_bucket(self, name: str) -> str:
        self.buckets[name] = {}
        return name

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def do_GET(self) -> None:
        gcs: GCSServer = self.server.gcs
        path, _, query = self.path.partition("?")
        bucket, _, name = unquote(path).removeprefix("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = {key: values[0] for key, values in parse_qs(query, strict_parsing=bool(query)).items()}
        with gcs.lock:
            gcs.log.append(f"{'LIST' if not name else self.command} {unquote(path)}")
            if gcs.refusals:
                self._fail(gcs.refusals.pop(0), "SlowDown")
            elif not gcs.account.signed(self.headers["Authorization"].removeprefix("Bearer ")):
                self._fail(401, "AuthenticationRequired")
            elif bucket not in gcs.buckets:
                self._fail(404, "NoSuchBucket", "The specified bucket does not exist.")
            elif name:
                self._object(gcs.buckets[bucket], name, body)
            else:
                self._list(gcs.buckets[bucket], asked)

    do_HEAD = do_PUT = do_DELETE = do_GET

    def _object(self, bucket: dict[str, Object], name: str, body: bytes) -> None:
        found = bucket.get(name)
        if self.command == "PUT":
            expected = self.headers.get("x-goog-if-generation-match")
            if expected is not None and int(expected) != (found.generation if found else 0):
                self._fail(412, "PreconditionFailed")
                return
            later = found.generation + 1 if found else 0
            generation = max(time.time_ns() // 1000, later)
            bucket[name] = Object(body, generation, time.time())
            self._answer(200, b"", bucket[name])
        elif found is None:
            self._fail(404, "NoSuchKey", "The specified key does not exist.")
        elif self.command == "DELETE":
            del bucket[name]
            self._answer(204, b"")
        else:
            self._part(found)

    def _part(self, found: Object) -> None:
        wanted = self.headers.get("Range")
        size = len(found.content)
        if wanted is None:
            self._answer(200, found.content, found)
            return
        start, end = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
        if start >= size:
            self._fail(416, "InvalidRange")
            return
        part = found.content[start : end + 1]
        shown = f"bytes {start}-{start + len(part) - 1}/{size}"
        self._answer(206, part, found, {"Content-Range": shown})

    def _list(self, bucket: dict[str, Object], asked: dict[str, str]) -> None:
        assert self.command == "GET" and asked.keys() <= _KNOWN and asked["list-type"] == "2"
        after = asked.get("continuation-token", "")
        names = sorted(name for name in bucket if name > after)
        names = [name for name in names if name.startswith(asked.get("prefix", ""))]
        page, more = names[:_PAGE], names[_PAGE:]
        parts = ['<?xml version="1.0" encoding="UTF-8"?><ListBucketResult>']
        for name in page:
            one = bucket[name]
            at = datetime.datetime.fromtimestamp(one.modified, datetime.UTC)
            parts.append(
                f"<Contents><Key>{escape(name)}</Key><Generation>{one.generation}</Generation>"
                f"<LastModified>{at:%Y-%m-%dT%H:%M:%S.%f}Z</LastModified>"
                f"<ETag>{escape(one.tag)}</ETag><Size>{len(one.content)}</Size></Contents>"
            )
        if more:
            parts.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        parts.append(f"<IsTruncated>{str(bool(more)).lower()}</IsTruncated></ListBucketResult>")
        self._answer(200, "".join(parts).encode())

    def _fail(self, status: int, code: str, message: str = "") -> None:
        told = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self._answer(status, told.encode())

    def _answer(
        self, status: int, body: bytes, of: Object | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        if of is not None:
            self.send_header("ETag", of.tag)
            self.send_header("x-goog-generation", str(of.generation))
            self.send_header("Last-Modified", email.utils.formatdate(of.modified, usegmt=True))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def known(folder: pathlib.Path, account: Account) -> Iterator[None]:
    """Let the environment name the file of an account."""
    path = folder / "account.json"
    path.write_text(account.file())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_SERVICE_ACCOUNT", str(path))
        yield


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GCSServer]:
    """Run a server for the session, with credentials for it in the environment."""
    server = GCSServer()
    try:
        with known(tmp_path_factory.mktemp("gcs"), server.account):
            yield server
    finally:
        server.stop()
