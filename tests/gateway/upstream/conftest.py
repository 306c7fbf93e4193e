"""Both event loops that the gateway runs on, and a provider that says what a test wants."""

import asyncio
import datetime
import ipaddress
import ssl
import sys

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from askonce.gateway.direct import Direct
from tests.gateway.upstream.scripted import Scripted


def pytest_asyncio_loop_factories(config, item):
    factories = {"asyncio": asyncio.new_event_loop}
    if sys.platform != "win32":
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture(autouse=True)
async def nothing_is_left(caplog):
    """No task stays behind, and no error goes by unseen."""
    loop = asyncio.get_running_loop()
    unseen = []
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not unseen
    assert not caplog.records


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """Give the contexts of a server and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provider")])
    now = datetime.datetime.now(datetime.UTC)
    local = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(local), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(pem))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=path)


@pytest.fixture
async def serve(nothing_is_left, tls):
    """Start providers that follow a script, and give a way to each."""
    opened = []

    async def serve(script, *, over_tls=False, host="127.0.0.1", **settings):
        scripted = await Scripted(script, host, tls[0] if over_tls else None).start()
        told = {"connect_timeout": 10.0, "timeout": 10.0, "max_connections": 10} | settings
        direct = Direct(host, scripted.port, tls[1] if over_tls else None, **told)
        opened.append((scripted, direct, told["max_connections"]))
        return scripted, direct

    yield serve
    for scripted, direct, most in opened:
        assert not direct._used
        assert direct._free._value == most
        await direct.aclose()
        await scripted.stop()
