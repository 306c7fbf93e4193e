"""Embedders for models on this machine, each with an extra of its own.

What a model cannot take in is cut off, as its library does it. Weights are part of what
identifies an embedder where they are files here: other weights under one name are not confused.
"""

from askonce.providers.local.model2vec import Model2VecEmbedder
from askonce.providers.local.onnx import OnnxEmbedder
from askonce.providers.local.sentence_transformers import SentenceTransformerEmbedder

__all__ = ["Model2VecEmbedder", "OnnxEmbedder", "SentenceTransformerEmbedder"]
