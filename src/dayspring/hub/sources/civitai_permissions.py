"""What the owner of a community model permits, as Civitai's interface says it.

`allowCommercialUse` is a list of: Image (sell what it makes), RentCivit (offer it on Civitai itself), Rent (offer it on
other services), Sell (sell the model or a merge of it). Serving a model to paying users is renting it out, and what
they get is meant to be used; so both Rent and Image are needed for a yes. Older answers have one word, where each
included those before it.
What it does not do: read the licence of the base model, whose own terms go on top; known non-commercial ones are named.
"""

import re
from typing import Any

from dayspring.hub.plan import Licence

__all__ = ["licence_of", "permissions"]

_LADDER = ("Image", "RentCivit", "Rent", "Sell")
_NEEDED = {"Image", "Rent"}
_NON_COMMERCIAL_BASES = frozenset({
    "Flux.1 D", "Flux.1 Kontext", "Flux.1 Krea", "Flux.2 D", "SDXL 0.9", "SDXL Turbo", "Stable Cascade",
})  # fmt: skip
"""Base models published under a licence for non-commercial use, as the site spells them."""


def permissions(value: object) -> tuple[str, ...] | None:
    """What is permitted, in the order above; None when the answer does not say."""
    if isinstance(value, str):
        words = re.findall(r"[A-Za-z]+", value)
        if len(words) == 1 and words[0] in _LADDER and not value.startswith("{"):
            words = list(_LADDER[: _LADDER.index(words[0]) + 1])
    elif isinstance(value, list):
        words = [word for word in value if isinstance(word, str)]
    else:
        return None
    return tuple(word for word in _LADDER if word in words)


def licence_of(model: dict[str, Any], page: str) -> Licence:
    """The owner's permissions as a licence; `model` is the answer, with the version's `baseModel` in it."""
    given = permissions(model.get("allowCommercialUse"))
    base = model.get("baseModel")
    base = base[:60] if isinstance(base, str) else ""
    if given is None:
        return Licence("", "", page)
    words = ", ".join(given) or "nothing commercial"
    if base in _NON_COMMERCIAL_BASES:
        return Licence(f"Civitai permissions ({words}) on {base}, which is non-commercial", "hub", page, "no")
    name = f"Civitai permissions ({words})" + (f" on {base}" if base else "")
    return Licence(name, "hub", page, "yes" if set(given) >= _NEEDED else "no")
