"""Do the main job on real input and report on it.

The exit code is 0 if something ran and all that ran was right.
"""

import argparse
import shutil
import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

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


def embed_passages(documents: list, name: str, folder: Path) -> None:
    """Embed the passages three times with askonce, twice with LangChain's own cache."""
    from askonce import open_store
    from examples.demo import embedding

    if name == "minilm":
        report.slow_model()
    texts = {document.page_content for document in documents}
    database = folder / "embeddings.db"
    url = f"sqlite:///{database}"
    with open_store(url) as store:
        model, cached = embedding.with_askonce(name, store)
        first, _ = embedding.index(documents, model, cached)
        again, found = embedding.index(documents, model, cached)
        third = embedding.in_new_process(name, url)
        keys = sorted(store.keys())
    files = folder / "langchain"
    model, cached = embedding.with_langchain(name, files)
    theirs = [embedding.index(documents, model, cached)[0] for _ in range(2)]
    report.embedding(name, [first, again, third], theirs)
    report.disk(embedding.sizes(database), embedding.sizes(files), found.index)
    report.keys(keys)
    report.answers(found, QUESTIONS)
    check(first.asked == len(texts), f"the model was asked for {first.asked} of {len(texts)} texts")
    check(again.asked == 0, f"the second run asked the model for {again.asked} texts")
    check(third.asked == 0, f"the new process asked the model for {third.asked} texts")
    same = first.digest == again.digest == third.digest
    check(same, "the vectors differ from run to run")


def ask_model(folder: Path) -> None:
    """Ask a language model three times."""
    from examples.demo import chat, language_model

    if chat.openai_is_wanted():
        model, server = "gpt-4o-mini", nullcontext(None)
    else:
        model, server = language_model.NAME, language_model.running()
    database = folder / "chat.db"
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
        check(hit.marked, f"the {nth} answer is not marked as a hit")
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


def _emptied(folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    return folder


def main() -> int:
    """Run the parts and give the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "--model", choices=["wordllama", "minilm"], default="wordllama", help="embedding model"
    )
    parser.add_argument(
        "--folder", type=Path, help="an empty folder for the caches (default: .demo/cache, emptied)"
    )
    options = parser.parse_args()
    folder = _emptied(CACHE) if options.folder is None else options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    warnings.simplefilter("ignore")  # langchain-community says that it is archived
    report.opening(folder)
    outcomes = []
    outcome, documents = attempt("1  Real passages", load_passages)
    outcomes.append(outcome)
    title = "2  Embeddings, asked for once"
    if documents is None:
        outcomes.append(report.Outcome(title, "could not run", "there are no passages"))
    else:
        outcomes.append(attempt(title, lambda: embed_passages(documents, options.model, folder))[0])
    outcomes.append(attempt("3  A chat answer, asked for once", lambda: ask_model(folder))[0])
    report.closing(outcomes)
    verdicts = {outcome.verdict for outcome in outcomes}
    return 0 if "right" in verdicts and "wrong" not in verdicts else 1


if __name__ == "__main__":
    sys.exit(main())
