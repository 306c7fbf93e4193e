"""What a wrapped model knows besides its own settings: where its answers are, and on what terms."""

import contextlib
import copy
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Self, TypeGuard, TypeVar

from langchain_core.outputs import ChatGeneration, Generation

from askonce.chat import Decode, Question, event_of
from askonce.core import entry, flow, policy
from askonce.core.store import Store
from askonce.errors import InputError
from askonce.events import Code, Event, Observer
from askonce.integrations.langchain.adapter import as_store
from askonce.integrations.langchain.cached_answers import (
    CUT_SHORT,
    Finished,
    Whole,
    cut_short,
    whole_of,
)
from askonce.integrations.langchain.cached_identity import Scope, Unidentified
from askonce.integrations.langchain.messages import Refused
from askonce.leading import Lead, find_flow, give_up_flow, keep_flow, refuse_flow

Keep = Callable[[Any], bool]
Answer = TypeVar("Answer")
Finding = Generator[flow.Step, Any, Answer | Lead]


class Keeper:
    """Find and keep the answers of one model, in threads and tasks alike."""

    def __init__(
        self,
        store: object,
        *,
        namespace: str,
        ttl: float | None,
        sample: int,
        keep: Keep | None,
        ignore: Iterable[str],
        wait: float,
        observe: Observer,
    ) -> None:
        if sample < 0:
            raise InputError(f"sample is {sample}; samples are counted from 0")
        if isinstance(ignore, str):
            raise InputError("ignore is one string; give a list of strings")
        self.ttl = policy.check_ttl(ttl)
        self.scope = Scope(namespace, sample, frozenset(ignore))
        self.store = as_store(store)
        self._keep = keep
        self._wait = wait
        self._observe = observe
        self._warned: set[tuple[str, str]] = set()
        if not isinstance(store, Store):
            # Nobody else knows what was opened here, and models are never closed.
            weakref.finalize(self, self.store.close)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # A copy of a model goes on using the same store.
        return self

    def known(self, questions: Iterable[Question | Unidentified]) -> list[Question] | None:
        """Give the questions, None if one of them has no key."""
        known: list[Question] = []
        for question in questions:
            if not self.knows(question):
                return None
            known.append(question)
        return known

    def knows(self, question: Question | Unidentified) -> TypeGuard[Question]:
        """Tell whether a call has a key; if not, warn of it, once for each cause."""
        if isinstance(question, Question):
            return True
        namespace, reason = self.scope.namespace, question.reason
        event = Event("refused", 1, namespace, question.model, reason=reason, code="unidentified")
        flow.tell(self._observe, event)
        cause = (question.where, question.culprit)
        if cause not in self._warned:
            self._warned.add(cause)
            warnings.warn(question.reason, UserWarning, stacklevel=2)
        return False

    def run(self, steps: flow.Flow, call: Callable[[Any], Any] = id) -> Any:
        """Carry out a flow on this store."""
        return flow.run(steps, store=self.store, call=call, observe=self._observe)

    async def arun(self, steps: flow.Flow, call: Callable[[Any], Any] = id) -> Any:
        """Carry out a flow without blocking the event loop."""
        return await flow.arun(steps, store=self.store, call=call, observe=self._observe)

    def answering(self, questions: Sequence[Question]) -> flow.Flow:
        """Answer each question with its generations.

        The flow calls for the places of those that are missing, each question once, and is sent
        their generations.
        """
        places: dict[str, int] = {}
        for place, question in enumerate(questions):
            places.setdefault(question.key, place)
        found: dict[str, list[Generation]] = {}
        leads: list[Lead] = []
        later: list[str] = []
        try:
            for key, place in places.items():
                outcome = yield from self.finding(
                    questions[place], whole_of, patient=len(places) == 1
                )
                if not isinstance(outcome, Lead):
                    found[key] = outcome
                elif outcome.flight is None and len(places) > 1:
                    later.append(key)
                else:
                    leads.append(outcome)
            if leads:
                found |= yield from self._ask(leads, places)
        except BaseException:
            for lead in leads:
                yield from give_up_flow(lead, self.store.flights)
            raise
        for key in later:
            outcome = yield from self.finding(questions[places[key]], whole_of)
            if isinstance(outcome, Lead):
                found |= yield from self._ask_alone(outcome, places)
            else:
                found[key] = outcome
        return [
            found[question.key]
            if places[question.key] == place
            else copy.deepcopy(found[question.key])
            for place, question in enumerate(questions)
        ]

    def finding(
        self, question: Question, decode: Decode[Answer], *, patient: bool = True
    ) -> Finding[Answer]:
        """Find an answer, or lead."""
        now = flow.now()

        def open_entry(blob: bytes | None) -> Answer | None:
            payload = question.unpack(blob, now=now)
            return None if payload is None else decode(payload)

        return find_flow(question, open_entry, self.store.flights, wait=self._wait, patient=patient)

    def peeking(
        self, question: Question, decode: Decode[Answer]
    ) -> Generator[flow.Step, Any, Answer | None]:
        """Give a whole answer if it is there; if not, nothing is promised and nothing told."""
        (blob,) = yield flow.Read((question.key,))
        payload = question.unpack(blob, now=flow.now())
        found = None if payload is None else decode(payload)
        if found is not None:
            yield flow.Tell(event_of("hit", question, entry.meta_of(blob)))
        return found

    def keeping(self, lead: Lead, finished: Finished) -> flow.Flow:
        """Keep an answer that has come to its end, unless something speaks against it."""
        question = lead.question
        meta = {
            "model": question.model,
            "tokens": finished.tokens(),
            "seconds": round(flow.now() - lead.began, 4),
        }
        try:
            payload = finished.payload()
            code, objection = self._objection(finished.shown())
        except Refused as refused:
            yield from refuse_flow(lead, "not_plain", str(refused), self.store.flights, meta)
            return
        except BaseException:
            yield from give_up_flow(lead, self.store.flights)
            raise
        if objection:
            yield from refuse_flow(lead, code, objection, self.store.flights, meta)
            return
        packed = question.pack(payload, meta, now=flow.now(), ttl=self.ttl)
        yield from keep_flow(lead, packed, self.store.flights)

    @contextlib.contextmanager
    def asking(self, lead: Lead | None) -> Generator[None]:
        """Let the next in line lead if the stream inside does not come to its end."""
        try:
            yield
        except BaseException:
            if lead is not None:
                self.run(give_up_flow(lead, self.store.flights))
            raise

    def _ask_alone(self, lead: Lead, places: Mapping[str, int]) -> flow.Flow:
        try:
            return (yield from self._ask([lead], places))
        except BaseException:
            yield from give_up_flow(lead, self.store.flights)
            raise

    def _ask(self, leads: Sequence[Lead], places: Mapping[str, int]) -> flow.Flow:
        answers = yield flow.Call([places[lead.question.key] for lead in leads])
        for lead, generations in zip(leads, answers, strict=True):
            yield from self.keeping(lead, Whole(generations))
        return {lead.question.key: given for lead, given in zip(leads, answers, strict=True)}

    def _objection(self, answer: Generation) -> tuple[Code, str]:
        if self._keep is None:
            cut = cut_short(answer)
            if not cut:
                return "", ""
            reason = f"the answer was cut short ({cut}); keep= may decide otherwise"
            return CUT_SHORT[cut.lower()], reason
        shown = answer.message if isinstance(answer, ChatGeneration) else answer.text
        return ("", "") if self._keep(shown) else ("keep_hook", "keep() refused the answer")
