"""What is found out about a store by looking at it."""

from dataclasses import dataclass
from typing import Literal

State = Literal["fine", "doubtful", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Tell what a check found, and what to do unless it is fine.

    `doubtful` is what works, but may not be meant; `wrong` is what keeps the store from working as
    it should.
    """

    check: str
    told: str
    state: State = "fine"
    advice: str = ""
