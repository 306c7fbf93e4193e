"""URLs of object stores: which service, bucket and prefix are meant, and how to reach them."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from askonce.errors import InputError, StoreError
from askonce.stores import Location

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    from askonce.stores.objects_bucket import Engine

LOOKUP_TIMEOUT = 2.0
"""More than other stores have: a look-up is two to four requests of some 20 milliseconds."""

TIMEOUT = 5.0

_LIMITS = ("lookup_timeout", "timeout")
_A_DAY = 86400.0
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "s3": {
        "region": "region",
        "endpoint": "endpoint",
        "virtual_hosted": "virtual_hosted_style_request",
    },
    "gs": {"endpoint": "base_url"},
    "az": {"account": "account_name", "endpoint": "endpoint"},
    "file+object": {},
}
"""By scheme: our options and what the engine calls them."""

_ENGINES: Mapping[str, Any] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
_PAUSES = {"s3": (0.02, 0.2), "gs": (0.3, 1.0)}
"""Before a request is tried again, in seconds; Google allows one change of an object a second."""

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def limits_of(location: Location) -> tuple[float, float]:
    """Read the deadlines of look-ups and of all else, in seconds. Raises InputError."""
    lookup = location.seconds_option("lookup_timeout", LOOKUP_TIMEOUT)
    return lookup, location.seconds_option("timeout", TIMEOUT)


def engine_of(location: Location, *, timeout: float) -> tuple["Engine", str]:
    """Make the engine for a URL; give it and the prefix of all objects. Raises InputError."""
    folder = location.scheme == "file+object"
    if not folder and "@" in location.url.partition("://")[2].partition("/")[0]:
        raise InputError(
            f"a {location.scheme}:// URL holds no credentials; put them into the environment, as "
            "docs/reference/stores.md says, and leave out what is before the @"
        )
    settings = _SETTINGS[location.scheme]
    location.only_options(*settings, *([] if folder else ["allow_http"]), *_LIMITS)
    if folder:
        return _folder(location), ""
    bucket, prefix = _parts(location)
    config = {
        name: _flag(option, location.options[option])
        if option == "virtual_hosted"
        else location.options[option]
        for option, name in settings.items()
        if option in location.options
    }
    allow_http = _flag("allow_http", location.options.get("allow_http", "false"))
    if location.options.get("endpoint", "").startswith("http://") and not allow_http:
        raise InputError(
            "the endpoint begins with http://, which is not encrypted; write https://, or add "
            "allow_http=true if that is meant"
        )
    longest = timedelta(seconds=min(timeout, _A_DAY))
    client: ClientConfig = {"timeout": longest}
    if allow_http:
        client["allow_http"] = True
    first, most = _PAUSES.get(location.scheme, _PAUSES["s3"])
    retry: RetryConfig = {
        "max_retries": 2,
        "retry_timeout": longest,
        "backoff": {
            "init_backoff": timedelta(seconds=first),
            "max_backoff": timedelta(seconds=most),
            "base": 2,
        },
    }
    try:
        engine: Engine = _ENGINES[location.scheme](
            bucket, config=config, client_options=client, retry_config=retry
        )
    except (obstore.exceptions.BaseError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{location.scheme}://{bucket} cannot be opened: {reason}") from error
    return engine, prefix


def _folder(location: Location) -> LocalStore:
    path = location.file_path().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(path)
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        raise StoreError(f"cannot make the object store {path}: {error}") from error


def _parts(location: Location) -> tuple[str, str]:
    bucket, _, prefix = location.path.partition("/")
    segments = prefix.strip("/").split("/") if prefix.strip("/") else []
    if not bucket or any(segment in {"", ".", ".."} for segment in segments):
        raise InputError(
            f"write {location.scheme}://bucket or {location.scheme}://bucket/some/prefix, "
            "without empty or dotted parts"
        )
    return bucket, "/".join(segments)


def _flag(name: str, text: str) -> bool:
    flag = _FLAGS.get(text.lower())
    if flag is None:
        raise InputError(f"{name}={text}: write true or false")
    return flag
