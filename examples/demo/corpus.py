"""The text that the demo embeds."""

from pathlib import Path

from langchain_core.documents import Document

PATH = Path(__file__).parents[1] / "data" / "addresses.txt"
SOURCE = "39 State of the Union addresses, 1790 to 1945; public domain"


def load() -> list[Document]:
    """Load the text and split it into passages of at most 800 characters."""
    from langchain_community.document_loaders import TextLoader
    from langchain_text_splitters import CharacterTextSplitter

    documents = TextLoader(str(PATH), encoding="utf-8").load()
    return CharacterTextSplitter(chunk_size=800, chunk_overlap=0).split_documents(documents)
