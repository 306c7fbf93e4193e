"""What the gateway answers by itself, asked in all ways that its description allows and others."""

import json
import time

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS

from askonce.gateway.api_keys import KeyRing
from askonce.stores import open_store
from tests.gateway.running import configured, gateway
from tests.http import server as servers

TEXT = {"text/plain": {"schema": {"type": "string"}}}
ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "code", "message"],
            "properties": {
                "type": {"type": "string"},
                "code": {"type": "string"},
                "message": {"type": "string", "pattern": "^askonce: "},
            },
        },
    },
}
REFUSED = {"description": "a refusal", "content": {"application/json": {"schema": ERROR}}}
ANY = {"application/json": {"schema": {}}, "text/plain": {"schema": {"type": "string"}}}


def described(name, kind=str):
    return {"name": name, "in": "header", "schema": {"type": "string"}}


def operation(*statuses, **more):
    headers = ["Authorization", "X-Api-Key", "Askonce-Namespace", "Askonce-TTL", "Cache-Control"]
    return {
        "parameters": [described(name) for name in headers],
        "responses": {str(status): REFUSED for status in statuses},
        **more,
    }


def own(*statuses):
    given = {str(status): {"description": "told", "content": TEXT} for status in statuses}
    return {"get": {"responses": given}, "head": {"responses": {str(one): {"description": "told"} for one in statuses}}}


BODY = {"requestBody": {"content": ANY}}
SEGMENT = {"name": "segment", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
METHODS = ("get", "post", "put", "patch", "delete", "options")


def everywhere(path, *statuses):
    """Describe a path that refuses whatever is asked."""
    found = {}
    for method in METHODS:
        asked = operation(*statuses, **({} if method in ("get", "options") else BODY))
        if "{" in path:
            asked["parameters"].append(SEGMENT)
        found[method] = asked
    return {path: found}


def schema_of(paths):
    return schemathesis.openapi.from_dict(
        {"openapi": "3.1.0", "info": {"title": "gateway", "version": "1"}, "paths": paths}
    )


OPEN = schema_of(
    {
        "/healthz": own(200),
        "/readyz": own(200),
        "/metrics": own(200),
        # A path that may be encoded in a way that nobody should use is refused for that.
        **everywhere("/elsewhere/{segment}", 400, 404),
        **everywhere("/v1/..%2f{segment}", 400),
        **everywhere("/", 404),
    }
)
KEYED = schema_of(
    {
        "/healthz": own(200),
        **everywhere("/v1/chat/completions", 401),
        **everywhere("/v1/embeddings", 401),
        **everywhere("/v1/files/{segment}", 401),
        **everywhere("/elsewhere/{segment}", 401),
    }
)
LIMITED = schema_of(
    {
        "/v1/chat/completions": {"post": operation(400, 403, **BODY)},
        "/v1/embeddings": {"post": operation(400, 403, **BODY)},
        **everywhere("/v1/files/{segment}", 400, 403),
    }
)
HARSH = settings(
    max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
CHECKED = [
    check
    for name, check in ((check.__name__, check) for check in CHECKS.get_all())
    if name
    in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]


@pytest.fixture(scope="module")
def provider():
    with servers.running(servers.chat) as server:
        yield server
        assert server.count == 0


@pytest.fixture(scope="module")
def passing(tmp_path_factory, provider):
    config = configured(tmp_path_factory.mktemp("open"), provider.address)
    with gateway(config) as running:
        yield running.address


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('keys')}/keys.db"
    with open_store(url) as store:
        secret, _ = KeyRing(store).create("limited", models=["no-such-*"], now=time.time())
    return url, secret


@pytest.fixture(scope="module")
def closed(tmp_path_factory, provider, keys):
    more = f'credential_env = "PROVIDERS_KEY"\n[access]\nkeys = "{keys[0]}"'
    config = configured(tmp_path_factory.mktemp("keyed"), provider.address, more)
    with gateway(config, PROVIDERS_KEY="sk-house") as running:
        yield running.address


def test_the_checks_are_there():
    assert len(CHECKED) == 4


@OPEN.parametrize()
@HARSH
def test_own_paths_and_none(case, passing):
    response = case.call(base_url=passing)
    case.validate_response(response, checks=CHECKED)


@KEYED.parametrize()
@HARSH
def test_without_a_key(case, closed):
    response = case.call(base_url=closed)
    case.validate_response(response, checks=CHECKED)


@LIMITED.parametrize()
@HARSH
def test_with_a_key_that_covers_nothing_asked(case, closed, keys):
    headers = dict(case.headers or {})
    for name in [name for name in headers if name.lower() in ("authorization", "x-api-key")]:
        del case.headers[name]
    response = case.call(base_url=closed, headers={"Authorization": f"Bearer {keys[1]}"})
    case.validate_response(response, checks=CHECKED)
    assert keys[1] not in json.dumps(str(response.content))
