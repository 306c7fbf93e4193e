"""Do the main job on real input and report on it.

The exit code is 0 if something ran and all that ran was right.
"""

import argparse
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext

from examples.demo import report
from examples.demo.process import ROOT

CACHE = ROOT / ".demo" / "cache"
QUESTIONS = (
    "What freedoms should people everywhere in the world have?",
    "Should we buy Louisiana from France?",
    "The emancipation of slaves",
)


class CannotRunError(Exception):
    """Say why a part cannot run here."""


class WrongError(Exception):
    """Say what was not as it should be."""


def load_passages() -> list:
    """Load and split the text."""
    from examples.demo import corpus

    documents = corpus.load()
    texts = [document.page_content for document in documents]
    report.passages(corpus, texts)
    check(len(texts) >= 1000, f"{len(texts)} passages are fewer than 1,000")
    return documents


def embed_passages(documents: list, name: str) -> None:
    """Embed the passages three times with askonce, twice with LangChain's own cache."""
    from askonce import open_store
    from examples.demo import embedding

    texts = {document.page_content for document in documents}
    database = CACHE / "embeddings.db"
    model, cached = embedding.with_askonce(name, database)
    first, _ = embedding.index(documents, model, cached)
    again, found = embedding.index(documents, model, cached)
    third = embedding.in_new_process(name, database)
    folder = CACHE / "langchain"
    model, cached = embedding.with_langchain(name, folder)
    theirs = [embedding.index(documents, model, cached)[0] for _ in range(2)]
    report.embedding(name, [first, again, third], theirs)
    report.disk(embedding.on_disk(database), embedding.on_disk(folder), found.index)
    with open_store(f"sqlite:///{database}") as store:
        report.keys(store.keys())
    report.answers(found, QUESTIONS)
    check(first.asked == len(texts), f"the model was asked for {first.asked} of {len(texts)} texts")
    check(again.asked == 0, f"the second run asked the model for {again.asked} texts")
    check(third.asked == 0, f"the new process asked the model for {third.asked} texts")
    same = first.digest == again.digest == third.digest == theirs[0].digest
    check(same, "the vectors differ from run to run")


def ask_model() -> None:
    """Ask a language model three times."""
    from examples.demo import chat, language_model

    if chat.openai_is_wanted():
        model, server = "gpt-4o-mini", nullcontext(None)
    else:
        model, server = language_model.NAME, language_model.running()
    database = CACHE / "chat.db"
    try:
        with server as address:
            asker = chat.Asker(model, address, database)
            seen = [asker.ask(), asker.ask(), chat.in_new_process(model, address, database)]
    except language_model.ServerError as error:
        raise CannotRunError(f"the local language model cannot be served: {error}") from error
    except chat.provider_errors() as error:
        raise CannotRunError(f"{model} could not be asked: {error}") from error
    report.chat(model, chat.QUESTION, seen)
    first, again, third = seen
    check(first.requests == 1, f"the first question made {first.requests} requests")
    check(first.tokens > 0, "the first answer's tokens were not counted")
    for nth, hit in (("second", again), ("third", third)):
        check(hit.requests == 0, f"the {nth} question made {hit.requests} requests")
        check(hit.content == first.content, f"the {nth} answer differs from the first")
        check(
            hit.response_metadata == first.response_metadata,
            f"the {nth} answer's response_metadata differs from the first's",
        )
        check(hit.tokens == 0, f"the {nth} answer's tokens were counted again")


def check(right: bool, otherwise: str) -> None:
    """Raise WrongError unless all is right."""
    if not right:
        raise WrongError(otherwise)


def attempt(title: str, part: Callable[[], object]) -> tuple[report.Outcome, object]:
    """Do one part, and say how it went."""
    report.heading(title)
    try:
        result = part()
    except CannotRunError as error:
        outcome = report.Outcome(title, "could not run", str(error))
    except WrongError as error:
        outcome = report.Outcome(title, "wrong", str(error))
    except ModuleNotFoundError as error:
        ours = (error.name or "").split(".")[0] in {"askonce", "examples"}
        outcome = report.Outcome(title, "wrong" if ours else "could not run", str(error))
    except Exception as error:
        report.trace()
        outcome = report.Outcome(title, "wrong", f"{type(error).__name__}: {error}")
    else:
        return report.Outcome(title, "right"), result
    report.outcome(outcome)
    return outcome, None


def main() -> int:
    """Run the parts and give the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "--model", choices=["wordllama", "minilm"], default="wordllama", help="embedding model"
    )
    name = parser.parse_args().model
    warnings.simplefilter("ignore")  # langchain-community says that it is archived
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(parents=True)
    report.opening(CACHE.relative_to(ROOT))
    outcomes = []
    outcome, documents = attempt("1  Real passages", load_passages)
    outcomes.append(outcome)
    title = "2  Embeddings, asked for once"
    if documents is None:
        outcomes.append(report.Outcome(title, "could not run", "there are no passages"))
    else:
        outcomes.append(attempt(title, lambda: embed_passages(documents, name))[0])
    outcomes.append(attempt("3  A chat answer, asked for once", ask_model)[0])
    report.closing(outcomes)
    verdicts = {outcome.verdict for outcome in outcomes}
    return 0 if "right" in verdicts and "wrong" not in verdicts else 1


if __name__ == "__main__":
    sys.exit(main())
