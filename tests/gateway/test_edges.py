"""What stands around the answers: TLS, health, metrics with a token, traces, flags, the log."""

import datetime
import ipaddress
import json
import ssl

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.gateway.running import configured, gateway
from tests.gateway.test_serving import ask, body, kept
from tests.http import server as servers


@pytest.fixture
def provider():
    with servers.running(servers.chat) as server:
        yield server


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate for this machine that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_it_serves_over_tls_and_asks_over_it(tmp_path, provider, certificate):
    """One gateway stands before another: the second trusts the first's certificate."""
    inner = tmp_path / "inner"
    inner.mkdir()
    config = configured(inner, provider.address)
    told = f'[server]\ntls_certificate = "{certificate[0]}"\ntls_key = "{certificate[1]}"\n'
    config.write_text(told + config.read_text())
    trusted = ssl.create_default_context(cafile=certificate[0])
    with gateway(config, trusted=trusted) as first:
        assert first.address.startswith("https://")
        more = f'tls_authorities = "{certificate[0]}"'
        with gateway(configured(tmp_path, first.address, more)) as second:
            replies = [ask_it(second.address, body("tls")) for ask_it in (ask, kept)]
            assert [one.status_code for one in replies] == [200, 200], replies[0].text
            statuses = [one.headers["cache-status"] for one in replies]
            assert statuses == ["askonce; fwd=miss, askonce; fwd=miss", "askonce; hit"]
    assert provider.count == 1


def test_readiness_and_metrics(tmp_path, provider):
    more = '[access]\nmetrics_token_env = "METRICS_TOKEN"\n'
    config = configured(tmp_path, provider.address)
    config.write_text(more + config.read_text())
    with gateway(config, METRICS_TOKEN="hush") as running:
        assert running.get("/healthz") == (200, "well\n")
        assert running.get("/readyz") == (200, "ready\n")
        ask(running.address, body())
        ask(running.address, body())
        assert running.get("/metrics")[0] == 401
        reply = httpx2.get(
            running.address + "/metrics", headers={"authorization": "Bearer hush"}, trust_env=False
        )
        assert 'askonce_hits_total{model="m-1",namespace="",route="fake"} 1.0' in reply.text
        assert 'outcome="hit"' in reply.text


def test_the_log_is_json_and_tells_no_secret(tmp_path, provider):
    with gateway(configured(tmp_path, provider.address)) as running:
        ask(running.address, body("private", stream=True), credential="Bearer sk-secret")
        ask(running.address, body("private too"), credential="Bearer sk-secret")
        ask(running.address, body("private", stream=True), credential="Bearer sk-secret")
        provider.answer = lambda _: servers.plain({"data": []})
        httpx2.get(running.address + "/v1/models?key=sk-secret", trust_env=False)
        running.stop()
    lines = [json.loads(line) for line in running.log if line.startswith("{")]
    assert [one["outcome"] for one in lines] == ["miss", "miss", "hit", "bypass"]
    assert all(one["status"] == 200 and one["upstream"] == "fake" for one in lines)
    assert not any("sk-secret" in line or "private" in line for line in running.log)


def test_flags_stand_above_the_environment_and_that_above_the_file(tmp_path, provider):
    config = configured(tmp_path, provider.address)
    other, flag = tmp_path / "environment.db", tmp_path / "flag.db"
    with gateway(config, ASKONCE_STORE=f"sqlite:///{other}") as running:
        ask(running.address, body())
    with gateway(config, "--store", f"sqlite:///{flag}", ASKONCE_STORE="memory://") as running:
        ask(running.address, body())
    assert other.exists()
    assert flag.exists()
    assert not (tmp_path / "gateway.db").exists()


async def test_spans_are_part_of_the_callers_trace(tmp_path, provider, monkeypatch):
    from askonce.gateway.app import Gateway
    from askonce.gateway.config import load

    exporter = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", tracing)
    config = configured(tmp_path, provider.address)
    config.write_text("traces = true\n" + config.read_text())
    served = Gateway(lambda: load(config))
    await served.start()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    content = json.dumps(body("span")).encode()
    transport = httpx2.ASGITransport(served)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for _ in range(2):
            reply = await client.post(
                "/v1/chat/completions", content=content, headers={"traceparent": parent}
            )
            assert reply.status_code == 200, reply.text
    await served.stop()
    spans = exporter.get_finished_spans()
    assert [one.attributes["askonce.outcome"] for one in spans] == ["miss", "hit"]
    assert {f"{one.context.trace_id:x}" for one in spans} == {parent.split("-")[1].lstrip("0")}
    passed_on = provider.asked[0].header("traceparent")
    assert f"{spans[0].context.span_id:016x}" in passed_on



def test_pages_of_other_sites_cannot_spend_our_key(tmp_path, provider):
    more = 'credential_env = "FAKE_KEY"'
    with gateway(configured(tmp_path, provider.address, more), FAKE_KEY="sk-ours") as running:
        page = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
        assert ask(running.address, body(), **page).status_code == 403
        assert provider.count == 0
        assert ask(running.address, body(), **{"Sec-Fetch-Site": "same-origin"}).status_code == 200
