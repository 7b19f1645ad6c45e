"""A BERT of safetensors becomes a GGUF with the same ids and the same vectors, or is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hub_kit import MakeHub
from safetensors.numpy import save_file

from dayspring.contracts.models import Ability
from dayspring.core.errors import Refused, Unavailable
from dayspring.hub.conversion.bert import write_bert
from dayspring.hub.conversion.bert_check import check_bert
from dayspring.hub.conversion.bert_folder import BertFolder
from dayspring.hub.conversion.bert_reference import BertReference
from dayspring.hub.conversion.wordpiece import WordPiece
from dayspring.hub.conversions import ConversionOrder, convert

WIDTH, LAYERS, HEADS, INNER, POSITIONS = 64, 2, 2, 128, 256
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
MARKS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¿"
VOCABULARY = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *MARKS,
    "the", "##ing", "hello", "日", "新", "п", "##р", "##и",
]  # fmt: skip


def tiny_bert(folder: Path, **config: object) -> Path:
    """A folder of random weights, spread as trained ones are."""
    random = np.random.default_rng(7)

    def matrix(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": matrix(len(VOCABULARY), WIDTH),
        "embeddings.position_embeddings.weight": matrix(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": matrix(2, WIDTH),
        "embeddings.position_ids": np.arange(POSITIONS)[None],
        "pooler.dense.weight": matrix(WIDTH, WIDTH),
        "pooler.dense.bias": matrix(WIDTH),
    }
    dense = {"attention.self.query": (WIDTH, WIDTH), "attention.self.key": (WIDTH, WIDTH),
             "attention.self.value": (WIDTH, WIDTH), "attention.output.dense": (WIDTH, WIDTH),
             "intermediate.dense": (INNER, WIDTH), "output.dense": (WIDTH, INNER)}  # fmt: skip
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for name, shape in dense.items():
            weights[f"{at}.{name}.weight"], weights[f"{at}.{name}.bias"] = matrix(*shape), matrix(shape[0])
        norms += [f"{at}.attention.output.LayerNorm", f"{at}.output.LayerNorm"]
    for name in norms:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + matrix(WIDTH), matrix(WIDTH)
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", "utf-8")
    fields = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS, "layer_norm_eps": 1e-12, "vocab_size": len(VOCABULARY),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(fields | config))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    return folder


async def test_a_bert_folder_is_converted_checked_and_served_as_gguf(make_hub: MakeHub, tmp_path: Path) -> None:
    hub = make_hub()
    plan = await hub.plan(f"file:{tiny_bert(tmp_path / 'tiny-bert')}")
    assert plan.refusals == ()
    assert (plan.format, plan.abilities, plan.licence.name) == ("gguf", (Ability.EMBEDDING,), "MIT")
    assert plan.conversion.startswith("BERT safetensors to GGUF")
    model = await hub.add(plan)
    assert model.path.endswith("tiny-bert.gguf")
    assert (model.dimensions, model.context_tokens, model.metadata["pooling"]) == (WIDTH, POSITIONS, "mean")
    assert 0.999 <= model.metadata["conversion"]["worst_cosine"] <= 1.000001
    assert model.metadata["conversion"]["sentences"] >= 12
    assert len(model.metadata["conversion"]["from"]) == 4


async def test_a_tensor_that_has_no_place_is_refused(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "odd")
    file = folder / "model.safetensors"
    known, stranger = b"encoder.layer.1.output.dense", b"encoder.layer.1.surplus.dens"
    file.write_bytes(file.read_bytes().replace(known, stranger))
    with pytest.raises(Refused, match="no tensor of this name"):
        await convert(ConversionOrder("bert", str(folder), str(tmp_path / "out.gguf")))


def test_other_arithmetic_than_the_originals_is_caught_by_the_check(tmp_path: Path) -> None:
    """Written with two heads, checked against four: every shape fits and every vector is wrong."""
    source = BertFolder(tiny_bert(tmp_path / "swapped"))
    write_bert(source, tmp_path / "m.gguf", "m")
    assert check_bert(source, tmp_path / "m.gguf") >= 0.999
    source.heads = 4
    with pytest.raises(Refused, match="vectors differ"):
        check_bert(source, tmp_path / "m.gguf")


def test_another_vocabulary_than_the_originals_is_caught_by_the_check(tmp_path: Path) -> None:
    source = BertFolder(tiny_bert(tmp_path / "swapped"))
    write_bert(source, tmp_path / "m.gguf", "m")
    the, hello = source.vocabulary.index("the"), source.vocabulary.index("hello")
    source.vocabulary[the], source.vocabulary[hello] = "hello", "the"
    with pytest.raises(Refused, match="other words"):
        check_bert(source, tmp_path / "m.gguf")


async def test_a_worker_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Unavailable, match="ended with status 1"):
        await convert(ConversionOrder("bert", str(tmp_path), str(tmp_path / "out.gguf")))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello, THE end", ["hello", ",", "the", "e", "##n", "##d"]),
        ("thé  \t the\n", ["the", "the"]),
        ("日新", ["日", "新"]),
        ("ing", ["i", "##n", "##g"]),
        ("a\u200bb\0c", ["a", "##b", "##c"]),
        ("x" * 101, ["[UNK]"]),
        ("при й", ["п", "##р", "##и", "и"]),
    ],
)
def test_wordpiece_splits_as_bert_does(text: str, pieces: list[str]) -> None:
    ids = WordPiece([*VOCABULARY, "и"]).encode(text, 200)
    assert [[*VOCABULARY, "и"][index] for index in ids] == ["[CLS]", *pieces, "[SEP]"]


def test_the_reference_attends_and_normalises() -> None:
    """With no layers a text's vector is the mean of normalised embeddings: computed here by hand."""
    random = np.random.default_rng(1)
    names = ("word", "position", "token_type")
    weights = {f"embeddings.{name}_embeddings.weight": random.normal(size=(5, 4)) for name in names}
    weights |= {"embeddings.LayerNorm.weight": np.ones(4), "embeddings.LayerNorm.bias": np.zeros(4)}
    rows = [weights["embeddings.word_embeddings.weight"][i] + weights["embeddings.position_embeddings.weight"][p]
            + weights["embeddings.token_type_embeddings.weight"][0] for p, i in enumerate([2, 0, 3])]  # fmt: skip
    unit = [(row - row.mean()) / row.std() for row in rows]
    mean = sum(unit) / 3
    got = BertReference(weights, heads=1, layers=0, epsilon=0).embed([2, 0, 3], "mean")
    assert np.allclose(got, mean / np.linalg.norm(mean))


@pytest.mark.model
async def test_the_default_embedding_model_keeps_its_vectors(default_models: Path, tmp_path: Path) -> None:
    order = ConversionOrder("bert", str(default_models / "all-MiniLM-L6-v2"), str(tmp_path / "m.gguf"))
    result = await convert(order)
    assert result.worst_cosine > 0.9999
    assert result.sentences >= 12
