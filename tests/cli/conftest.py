import pytest

from askonce.cli import main
from tests.cli.embedding import MODEL, STORE
from tests.cli.helpers import Result


@pytest.fixture
def askonce(capsys, tmp_path, monkeypatch):
    """Run a command line in a fresh folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Result(code, printed.out, printed.err)

    return run


@pytest.fixture
def embed(askonce):
    def run(*arguments, model="embed", store=STORE):
        spec = model if ":" in model else MODEL.format(model)
        return askonce("embed", *arguments, "--model", spec, "--store", store)

    return run
