"""Checking a converted BERT: the same ids and, within a bound, the same vectors as the original's arithmetic."""

import json
from pathlib import Path

import numpy as np
import xllamacpp

from dayspring.core.errors import Refused
from dayspring.hub.conversion.bert_folder import BertFolder
from dayspring.hub.conversion.bert_reference import Array, BertReference
from dayspring.hub.conversion.wordpiece import WordPiece

__all__ = ["LEAST_COSINE", "SENTENCES", "check_bert"]

LEAST_COSINE = 0.999
_SAME = 0.999_999
"""Cosine above which two vectors of one model come from the same ids."""
_LONG = (
    "The maintenance manual says that the spindle bearing must be greased every two hundred hours of operation, that "
    "the coolant level is to be read with the machine at rest, and that a reading below the lower mark means the pump "
    "has run dry before; in that case open the inspection cover, rinse the strainer, and note the time in the log. "
)
SENTENCES = (
    "hello",
    "The quick brown fox jumps over the lazy dog.",
    "A patient complains of headaches and a stiff neck since yesterday evening.",
    "Ein Mädchen aß über 1 000 süße Äpfel in Zürich.",
    "L'été dernier, le garçon a mangé à l'hôtel près de l'île.",
    "El niño preguntó: ¿cuándo volverá la señora Núñez?",
    "日日新 means new every day; 商量 means to talk something over.",
    "Pneumonoultramicroscopicsilicovolcanoconiosis is electroencephalographically unimaginable.",
    "E = mc^2, 3.14159 <= x < 10e-7; (a && b) || !c -- #42 @home $5.00 50%",
    "What   does\tthis\nfunction return when the list is empty?",
    "Привет, мир! Как дела?",
    _LONG,
    _LONG * 3,
)


def check_bert(source: BertFolder, converted: Path) -> float:
    """The worst cosine over the sentences. Raises Refused when it is too small or an id differs."""
    tokens = WordPiece(source.vocabulary, lower=source.lower)
    reference = BertReference(source.weights, heads=source.heads, layers=source.layers, epsilon=source.epsilon)
    server = _load(converted, source)
    worst = 1.0
    for sentence in SENTENCES:
        ids = tokens.encode(sentence, source.positions)
        right = reference.embed(ids, source.pooling)
        by_ids, _ = _vector(server, ids)
        worst = min(worst, float(right @ by_ids))
        if len(tokens.encode(sentence, 1 << 20)) > source.positions:
            continue  # longer than the model reads: only as far as it was cut can the two be compared
        by_text, counted = _vector(server, sentence)
        if counted != len(ids) or float(by_text @ by_ids) < _SAME:
            raise _refused(f"it reads {sentence[:40]!r} as other words than the original")
    if not worst >= LEAST_COSINE:
        raise _refused(f"its vectors differ from the original's (cosine {worst:.6f}, at least {LEAST_COSINE} is asked)")
    return worst


def _load(converted: Path, source: BertFolder) -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    params.model.path = str(converted)
    params.embedding = True
    params.n_ctx = params.n_batch = params.n_ubatch = source.positions
    params.n_parallel = 1
    params.n_gpu_layers = 0
    # One thread: a dozen sentences need no more, and waiting threads spin when the machine is busy.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    return xllamacpp.Server(params)


def _vector(
    server: xllamacpp.Server, text: str | list[int]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], int]:
    """The vector, of unit length, and how many tokens were read."""
    answer = server.handle_embeddings({"input": text, "encoding_format": "float"})
    fields = json.loads(answer) if isinstance(answer, str | bytes) else answer
    if "data" not in fields:
        raise _refused("it gives no vectors")
    vector: Array = np.asarray(fields["data"][0]["embedding"], dtype=np.float64)
    return vector / np.linalg.norm(vector), int(fields["usage"]["prompt_tokens"])


def _refused(rule: str) -> Refused:
    return Refused(file="the converted model", rule=rule, remedy="Choose a GGUF file of the model, and report this.")
