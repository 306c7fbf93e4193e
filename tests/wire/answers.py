"""Answers of every shape, generated."""

from hypothesis import strategies as st

TEXT = st.text(max_size=12)
NAME = st.sampled_from(["mood", "parts", "x_seen", "provider", "annotations"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.floats(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
COUNT = st.integers(0, 2**40)
EXTRA = st.dictionaries(NAME, JSON, max_size=3)


def records(required, optional=None, extra=EXTRA):
    """Generate objects with these fields, some of the optional ones and a few unknown."""
    known = st.fixed_dictionaries(required, optional=optional or {})
    return st.builds(lambda unknown, fields: {**unknown, **fields}, extra, known)


HEAD = {"id": TEXT, "created": COUNT, "model": TEXT}
MAYBE_HEAD = {"system_fingerprint": st.none() | TEXT, "service_tier": st.none() | TEXT}
USAGE = records({"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT})

CALL = records(
    {"id": TEXT, "type": st.just("function")},
    {"function": records({"name": TEXT, "arguments": TEXT}, extra=st.just({}))},
) | records({"id": TEXT, "type": st.just("custom"), "custom": records({"name": TEXT})})

MESSAGE = records(
    {"role": st.just("assistant"), "content": st.none() | TEXT},
    {
        "refusal": st.none() | st.just(""),
        "tool_calls": st.none() | st.lists(CALL, max_size=3),
        "reasoning_content": st.none() | TEXT,
        "reasoning_details": st.lists(
            records({"type": TEXT, "text": TEXT}, {"index": st.integers(0, 2)}), max_size=3
        ),
        "audio": st.none() | records({"id": TEXT, "data": TEXT, "transcript": TEXT}),
        "function_call": records({"name": TEXT, "arguments": TEXT}),
    },
)
TOKENS = st.lists(records({"token": TEXT, "logprob": st.floats(-9, 0)}), max_size=3)
LOGPROBS = st.none() | records({"content": st.none() | TOKENS}, {"refusal": st.none() | TOKENS})


def _numbered(choices):
    return [{**choice, "index": index} for index, choice in enumerate(choices)]


def _choices(fields, optional):
    ending = {"finish_reason": st.sampled_from(["stop", "tool_calls"])}
    one = records({**fields, **ending}, optional)
    return st.lists(one, min_size=1, max_size=3).map(_numbered)


CHAT = records(
    {
        **HEAD,
        "object": st.just("chat.completion"),
        "choices": _choices({"message": MESSAGE}, {"logprobs": LOGPROBS}),
    },
    {**MAYBE_HEAD, "usage": st.none() | USAGE},
)
COMPLETION = records(
    {
        **HEAD,
        "object": st.just("text_completion"),
        "choices": _choices({"text": TEXT}, {"logprobs": LOGPROBS}),
    },
    {**MAYBE_HEAD, "usage": st.none() | USAGE},
)

ITEM = (
    records(
        {
            "type": st.just("message"),
            "id": TEXT,
            "role": st.just("assistant"),
            "status": st.just("completed"),
            "content": st.lists(
                records(
                    {"type": st.just("output_text"), "text": TEXT},
                    {"annotations": st.lists(EXTRA, max_size=2), "logprobs": TOKENS},
                ),
                max_size=2,
            ),
        }
    )
    | records({"type": st.just("function_call"), "call_id": TEXT, "name": TEXT, "arguments": TEXT})
    | records(
        {
            "type": st.just("reasoning"),
            "id": TEXT,
            "summary": st.lists(
                records({"type": st.just("summary_text"), "text": TEXT}), max_size=2
            ),
        },
        {
            "content": st.none()
            | st.lists(records({"type": st.just("reasoning_text"), "text": TEXT}), max_size=2)
        },
    )
    | records({"type": st.just("custom_tool_call"), "name": TEXT, "input": TEXT})
    | records({"type": TEXT})
)
RESPONSE = records(
    {
        "id": TEXT,
        "object": st.just("response"),
        "status": st.just("completed"),
        "output": st.lists(ITEM, max_size=3),
    },
    {"usage": st.none() | USAGE, "completed_at": COUNT, "error": st.none()},
)

BLOCK = (
    records(
        {"type": st.just("text"), "text": TEXT},
        {"citations": st.none() | st.lists(EXTRA, max_size=2)},
    )
    | records({"type": st.just("thinking"), "thinking": TEXT, "signature": TEXT})
    | records({"type": st.just("redacted_thinking"), "data": TEXT})
    | records(
        {
            "type": st.sampled_from(["tool_use", "server_tool_use"]),
            "id": TEXT,
            "name": TEXT,
            "input": st.dictionaries(TEXT, JSON, max_size=3),
        }
    )
    | records({"type": st.just("web_search_tool_result"), "content": JSON})
)
ANTHROPIC = records(
    {
        "id": TEXT,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": TEXT,
        "content": st.lists(BLOCK, max_size=3),
        "stop_reason": st.sampled_from(["end_turn", "tool_use", "stop_sequence"]),
        "usage": records({"input_tokens": COUNT, "output_tokens": COUNT}),
    },
    {"stop_sequence": st.none() | TEXT, "stop_details": st.none() | EXTRA},
)

PART = (
    records({"text": TEXT}, {"thought": st.booleans()}, extra=st.just({}))
    | records({"functionCall": EXTRA, "thoughtSignature": TEXT})
    | records({"text": TEXT, "thoughtSignature": TEXT})
)
GEMINI = records(
    {
        "candidates": st.lists(
            records(
                {
                    "content": records(
                        {"role": st.just("model"), "parts": st.lists(PART, max_size=3)}
                    ),
                    "finishReason": st.just("STOP"),
                },
                {"safetyRatings": st.lists(EXTRA, max_size=2)},
            ),
            min_size=1,
            max_size=2,
        ).map(_numbered)
    },
    {"usageMetadata": EXTRA, "modelVersion": TEXT},
)

ANSWERS = {
    "openai_chat": CHAT,
    "openai_completions": COMPLETION,
    "openai_responses": RESPONSE,
    "anthropic_messages": ANTHROPIC,
    "gemini": GEMINI,
}
