import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputError, StoreError, open_store
from askonce.stores import Location
from askonce.stores.redis_address import Address, Node


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", {"nodes": (Node("host", 6379),)}),
        ("VALKEY://host:1/7", {"nodes": (Node("host", 1),), "database": 7}),
        ("redis://[::1]:7", {"nodes": (Node("::1", 7),)}),
        ("redis://u%3A:p%40%2F@host", {"user": "u:", "password": "p@/"}),
        ("redis://:p@host/", {"user": "", "password": "p"}),
        ("redis://u@host", {"user": "u", "password": ""}),
        ("redis+cluster://a,b:2", {"nodes": (Node("a", 6379), Node("b", 2)), "kind": "cluster"}),
        (
            "redis+sentinel://:p@a,b:2/my%20service/3",
            {
                "nodes": (Node("a", 26379, True), Node("b", 2, True)),
                "service": "my service",
                "database": 3,
                "password": "p",
            },
        ),
        ("rediss://host", {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": True}}),
        ("redis://host", {"tls": None}),
        (
            "valkeys://h?ssl_cert_reqs=none",
            {"tls": {"ssl_cert_reqs": "none", "ssl_check_hostname": False}},
        ),
    ],
)
def test_urls(url, expected):
    address = Address.of(Location.of(url))
    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://host:0",
        "redis://host:99999",
        "redis://host:port",
        "redis://host/database",
        "redis://host/-1",
        "redis://host/1/2",
        "redis://a,b",
        "redis://a b",
        "redis://::1:7",
        "redis+cluster://a/1",
        "redis+sentinel://a",
        "redis+sentinel://a/",
        "redis+sentinel://a/s/x",
        "redis://u:secret@host:x",
        "redis://u:sec/ret@host:x",
        "redis://host?db=1",
        "redis://u:secret@host?colour=blue",
        "redis://u:secret@host?prefix=",
        "redis://u:secret@host?timeout=0",
        "redis://u:secret@host?lookup_timeout=soon",
        "redis://u:secret@host?lookup_timeout=inf",
        "rediss://u:secret@host?ssl_ca_certs=/there/is/no/such/file",
        "rediss://u:secret@host?ssl_cert_reqs=perhaps",
    ],
)
def test_urls_that_can_only_be_mistakes(url):
    with pytest.raises(InputError) as error:
        open_store(url)
    assert "secret" not in str(error.value)
    assert "ret@" not in str(error.value)


@given(
    st.text(min_size=1), st.text(), st.sampled_from(["redis://", "redis+cluster://", "x://", ""])
)
def test_no_error_of_a_url_shows_a_password(password, rest, scheme):
    secret = f"<{password}>"
    try:
        open_store(f"{scheme}user:{secret}@{rest}").close()
    except (InputError, StoreError) as error:
        if "://" in scheme:
            assert secret not in str(error)


def test_neither_locations_nor_stores_show_a_password():
    url = "redis://user:secret@host:1/2?timeout=3"
    location = Location.of(url)
    assert location.shown == "redis://***@host:1/2?timeout=3"
    assert "secret" not in repr(location)
    assert "secret" not in repr(Address.of(location))
    assert "secret" not in repr(open_store(url).store)
    assert Location.of("sqlite:///data/a@b.db").shown == "sqlite:///data/a@b.db"
    assert Location.of("x:///y?far=redis://u:secret@h").shown == "x:///y?far=redis://***@h"
