"""Keys and values that are hard to keep."""

VALUES = {
    "empty": b"",
    "one": b"\0",
    "all": bytes(range(256)),
    "megabyte": bytes(range(256)) * 4096,
    "text": b"ASK1\r\n\x1a\xff",
}
KEYS = {
    "spaces": " leading and trailing ",
    "colon": "qwen3:4b",
    "dots": "a.b..c.",
    "one-dot": ".",
    "two-dots": "..",
    "hidden": ".hidden",
    "percent": "100%",
    "escaped": "%2F%2e%00",
    "wildcards": "a_b*c?d[e]",
    "quotes": "'\";--",
    "backslash": "C:\\temp",
    "tilde": "~root",
    "unicode": "żółć-日本語-🙂",
    "long": "segment" * 40,
    "long-dots": "s" * 200 + "..",
}
LOOKALIKES = [
    "A/a",
    "a/A",
    "a/a",
    "aa/a",
    "a.a/a",
    "a_a/a",
    "a%a/a",
    "a/a%",
    "a/\u00e1",
    "a/a\u0301",
]
