"""Connections that were closed meanwhile, and SDKs that try again."""

import asyncio
import threading

import httpx2
import openai
import pytest

import askonce
from tests.http import server as servers
from tests.http.askers import CHAT, body, until
from tests.http.server import Close, Hang, Reset, Script, chat, completion, plain


def closing(asked):
    """Answer well, then close, as a server does that is tired of an idle connection."""
    yield from chat(asked)
    yield Close


def unheard(asked):
    """Close instead of an answer."""
    return [Close]


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings"])
@pytest.mark.parametrize("fault", [Close, Reset])
def test_a_stale_connection_is_tried_once_more(kind, maker, path, fault):
    """The second request goes out on a connection that the server closes in that moment."""

    def answer(asked):
        if asked.connection == 1 and len(provider.asked) > 1:
            return [fault]
        if path == CHAT:
            return chat(asked)
        data = [{"object": "embedding", "index": 0, "embedding": [1.0]}]
        return plain({"object": "list", "data": data, "model": "m"})

    with servers.running(answer) as provider:
        asker = maker(kind, "memory://")
        questions = [body("1"), body("2")] if path == CHAT else [{"model": "m", "input": "1"}, {"model": "m", "input": "2"}]
        for question in questions:
            assert asker.ask(provider.address + path, question).status == 200
        assert [asked.connection for asked in provider.asked] == [1, 1, 2]
        assert provider.asked[1].body == provider.asked[2].body


def test_a_new_connection_is_not_tried_again(kind, maker):
    """The provider has heard the request, and may have charged for it."""
    with servers.running(unheard) as provider:
        asker = maker(kind, "memory://")
        with pytest.raises(asker.library.RemoteProtocolError):
            asker.ask(provider.address + CHAT, body())
        assert provider.count == 1


def test_it_is_tried_once_more_and_no_more(kind, maker):
    with servers.running(Script([chat], rule=unheard)) as provider:
        asker = maker(kind, "memory://")
        asker.ask(provider.address + CHAT, body("1"))
        with pytest.raises(asker.library.RemoteProtocolError):
            asker.ask(provider.address + CHAT, body("2"))
        assert [asked.connection for asked in provider.asked] == [1, 1, 2]


def test_a_connection_that_was_idle_and_closed_is_not_even_tried(kind, maker):
    with servers.running(closing) as provider:
        asker = maker(kind, "memory://")
        for number in range(4):
            assert asker.ask(provider.address + CHAT, body(str(number))).status == 200


def test_the_caller_s_own_trace_goes_on(kind, maker, provider, url):
    names = []
    asker = maker(kind, "memory://")

    def see(name, info):
        names.append(name)

    async def asee(name, info):
        names.append(name)

    trace = {"trace": asee if asker.is_async else see}
    asker.send(asker.client.build_request("POST", url, json=body(), extensions=trace))
    assert any("connect_tcp" in name for name in names)
    assert any("receive_response_body" in name for name in names)


@pytest.fixture
def sdk(provider):
    with askonce.http_client("memory://") as http:
        client = openai.OpenAI(base_url=f"{provider.address}/v1", api_key="k", http_client=http)
        client._calculate_retry_timeout = lambda *_, **__: 0.0
        yield client


MESSAGES = body()["messages"]


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("stream", [False, True])
def test_an_sdk_that_tries_again_gets_its_answer_and_it_is_kept(sdk, provider, status, stream):
    provider.answer = Script([lambda asked: plain({"error": {"message": "no"}}, status)] * 2)
    for _ in range(2):
        answer = sdk.chat.completions.create(model="m", messages=MESSAGES, stream=stream)
        if stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        else:
            text = answer.choices[0].message.content
        assert text == "Hello"
    assert provider.count == 3


def test_an_sdk_is_told_of_errors_as_without_a_cache(sdk, provider):
    error = {"error": {"message": "too much", "type": "t", "param": "p", "code": "c"}}
    provider.answer = lambda asked: plain(error, 400, ("X-Request-Id", "r9"))
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.body == error["error"]
    assert caught.value.request_id == "r9"
    assert provider.count == 1


def test_an_error_in_the_stream_reaches_the_sdk(sdk, provider):
    pieces = [servers.events("Hel")[1], b'data: {"error": {"message": "overloaded"}}\n\n']
    provider.answer = Script([lambda asked: servers.chunked(pieces)])
    with pytest.raises(openai.APIError, match="overloaded"):
        list(sdk.chat.completions.create(model="m", messages=MESSAGES, stream=True))
    answer = sdk.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"
    assert provider.count == 2


def test_headers_and_then_nothing_is_a_timeout_and_not_kept(sdk, provider):
    provider.answer = lambda asked: [*plain(completion())[:1], Hang]
    impatient = sdk.with_options(timeout=0.3, max_retries=1)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(model="m", messages=MESSAGES)
    until(lambda: provider.count == 2)
    provider.answer = chat
    answer = sdk.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"
    assert provider.count == 3


def test_an_sdk_does_not_retry_what_is_only_in_the_cache(sdk, provider):
    with askonce.policy(only_if_cached=True), pytest.raises(openai.InternalServerError) as caught:
        sdk.chat.completions.create(model="m", messages=MESSAGES)
    assert caught.value.status_code == 504
    with pytest.raises(openai.BadRequestError, match="Askonce-TTL"):
        sdk.chat.completions.create(model="m", messages=MESSAGES, extra_headers={"Askonce-TTL": "x"})
    assert provider.count == 0


def test_threads_of_one_client_do_not_disturb_each_other(sdk, provider):
    """Many different questions at once, each with the answer to itself."""

    def echo(asked):
        return plain(completion(asked.json()["messages"][0]["content"]))

    provider.answer = echo
    wrong = []

    def ask(number):
        for question in range(number, number + 20):
            content = str(question)
            answer = sdk.chat.completions.create(
                model="m", messages=[{"role": "user", "content": content}]
            )
            if answer.choices[0].message.content != content:
                wrong.append(question)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert provider.count == 27


def test_one_client_in_one_loop_after_another(provider, url):
    """A store is shared by loops, as clients must not be."""
    with askonce.open_store("memory://") as store:

        async def ask():
            inner = httpx2.AsyncHTTPTransport(verify=False)
            async with httpx2.AsyncClient(transport=askonce.async_transport(store, inner)) as client:
                return (await client.post(url, json=body())).content

        assert asyncio.run(ask()) == asyncio.run(ask())
    assert provider.count == 1
