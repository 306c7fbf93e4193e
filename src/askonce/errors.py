"""Every error that askonce itself raises.

AskonceError
├── StoreError            a store cannot be opened, read or written
│   ├── StoreRefusedError      it is well, but does not take this
│   └── StoreUnavailableError  it failed a moment ago and is not asked for now
├── InputError            what the caller passed cannot be used (also a ValueError)
│   └── InputTypeError    it has the wrong type (also a TypeError)
├── AnswerError           a model answered with something that must not be kept
└── MissingExtraError     an optional package is not installed (also an ImportError)

An error of a model or its client is never wrapped: it reaches the caller untouched.
"""


class AskonceError(Exception):
    """Be the base of every error that askonce raises."""


class StoreError(AskonceError):
    """Say that a store cannot be opened, read or written, and what to do about it."""


class StoreRefusedError(StoreError):
    """Say what a store that is well does not take: an entry too large, a write without rights.

    It is no reason to believe that the next operation fails, too.
    """


class StoreUnavailableError(StoreError):
    """Say why a store is not asked for now: it failed a moment ago, and that was told then."""


class InputError(AskonceError, ValueError):
    """Say which value the caller passed cannot be used, and what would be."""


class InputTypeError(InputError, TypeError):
    """Say which value the caller passed has the wrong type."""


class AnswerError(AskonceError):
    """Say that a model's answer is unusable; nothing of it was stored."""


class MissingExtraError(AskonceError, ImportError):
    """Say which package is missing and how to install it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'askonce[{extra}]'"
        )
