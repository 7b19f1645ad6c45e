"""Which files of a folder, wheel or repository make the model. Pure: names and sizes in, names out."""

import re
from collections.abc import Mapping

from dayspring.core.errors import InvalidRequest, Refused
from dayspring.hub.formats.names import check_name
from dayspring.hub.formats.pickles import REMEDY

__all__ = ["choose_files", "is_weights"]

_WEIGHTS = (".gguf", ".safetensors", ".onnx", ".tflite")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".t7")
_BESIDE = re.compile(
    r"(.*/)?(config|adapter_config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|modules|model_index"
    r"|sentence_bert_config|config_sentence_transformers|preprocessor_config|scheduler_config|vocab|vocabulary|merges"
    r"|[\w.-]*\.index)\.(json|txt)|(.*/)?chat_template\.(json|jinja)|(.*/)?(spiece|tokenizer|sentencepiece\.bpe)\.model"
    r"|(.*/)?(README\.md|LICENSE(\.\w+)?|NOTICE(\.\w+)?)"
)
_SPLIT = re.compile(r"(.+)-\d{5}-of-(\d{5})\.gguf")
_BESIDE_MAX_BYTES = 64 << 20
_PROJECTOR_KINDS = ("-f16", "bf16", "f16", "q8_0", "f32")


def is_weights(name: str) -> bool:
    """Whether a name is one that weights have."""
    return name.endswith(_WEIGHTS) or name.rsplit("/", 1)[-1] == "model.bin"


def choose_files(sizes: Mapping[str, int], wanted: str, where: str) -> tuple[list[str], list[str]]:
    """The names to have, weights first, and what to tell about the rest.

    `wanted` is a file or folder of it, or empty. Raises InvalidRequest when it must be said which file is meant,
    Refused when only pickles are there.
    """
    if wanted in sizes:
        return _with_projector(_with_splits(sizes, wanted, where), sizes, where)
    prefix = f"{wanted}/" if wanted else ""
    inside = [name for name in sorted(sizes) if name.startswith(prefix)]
    if not inside:
        raise InvalidRequest(f"There is no {wanted!r} in {where}. It has: {_listed(sorted(sizes))}.")
    ggufs = [name for name in inside if name.endswith(".gguf") and "mmproj" not in name.rsplit("/", 1)[-1].lower()]
    if ggufs:
        groups = {(match[1] if (match := _SPLIT.fullmatch(name)) else name) for name in ggufs}
        if len(groups) > 1:
            raise InvalidRequest(f"{where} has several models. Name one after '#': {_listed(ggufs)}.")
        return _with_projector(_with_splits(sizes, ggufs[0], where), sizes, where)
    beside = [name for name in inside if _BESIDE.fullmatch(name) and sizes[name] <= _BESIDE_MAX_BYTES]
    top = [name for name in inside if is_weights(name) and "/" not in name.removeprefix(prefix)]
    weights = [name for name in top if name.endswith(".safetensors")] or top
    if f"{prefix}model_index.json" in sizes:
        weights = [name for name in inside if name.endswith(".safetensors")]
    if f"{prefix}config.json" not in sizes and f"{prefix}model_index.json" not in sizes and len(weights) > 1:
        raise InvalidRequest(f"{where} has several models. Name one after '#': {_listed(weights)}.")
    pickles = [name for name in inside if name.endswith(_PICKLES) and name not in weights]
    if not weights:
        if pickles:
            raise Refused(file=f"{where}: {pickles[0]}", rule="its weights are there as a pickle only", remedy=REMEDY)
        raise InvalidRequest(f"There is no model file in {where}. It has: {_listed(inside)}.")
    notes = [f"{pickles[0]} and {len(pickles) - 1} more pickles are left out."] if len(pickles) > 1 else []
    notes += [f"{pickles[0]}, a pickle, is left out."] if len(pickles) == 1 else []
    return [check_name(name, where=where) for name in (*weights, *beside)], notes


def _with_projector(names: list[str], sizes: Mapping[str, int], where: str) -> tuple[list[str], list[str]]:
    """The model's files and, where one lies in the same folder, the projector that gives it eyes; and what to tell."""
    folder = names[0].rpartition("/")[0]
    beside = [name for name in sorted(sizes) if name.endswith(".gguf") and name.rpartition("/")[0] == folder]
    projectors = [name for name in beside if "mmproj" in name.rsplit("/", 1)[-1].lower()]
    if not projectors or not names[0].endswith(".gguf") or names[0] in projectors:
        return names, []
    chosen = min(projectors, key=_projector_order)
    more = f", chosen from {len(projectors)}" if len(projectors) > 1 else ""
    note = f"{chosen.rsplit('/', 1)[-1]} lies beside it and is added with it, so that it reads pictures{more}."
    return [*names, check_name(chosen, where=where)], [note]


def _projector_order(name: str) -> tuple[int, str]:
    """16-bit floats first: others are larger, or coarser than the model's eyes were trained to be."""
    lower = name.lower()
    return next((place for place, kind in enumerate(_PROJECTOR_KINDS) if kind in lower), len(_PROJECTOR_KINDS)), name


def _with_splits(sizes: Mapping[str, int], name: str, where: str) -> list[str]:
    """The file, and where it is one of several that make a model, all of them in order."""
    check_name(name, where=where)
    match = _SPLIT.fullmatch(name)
    if not match:
        return [name]
    count = int(match[2])
    names = [f"{match[1]}-{index:05d}-of-{match[2]}.gguf" for index in range(1, min(count, 999) + 1)]
    for missing in names:
        if missing not in sizes:
            raise Refused(
                file=f"{where}: {missing}", rule="a part of the model is missing", remedy="Choose a whole one."
            )
    return names


def _listed(names: list[str], most: int = 12) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
