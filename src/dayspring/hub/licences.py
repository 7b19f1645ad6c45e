"""Which licences permit commercial use, by SPDX id (spdx.org/licenses) or by what a hub says of its own permissions.

The first table holds ids whose text grants commercial use of the model without asking; names of the second sort forbid
it by their own words. Everything else, and silence, is unknown. What is not a yes is for the operator to accept on
record. Not legal advice: it decides only whether a person is asked.
"""

import hashlib
import re
from typing import Literal

import msgspec

from dayspring.hub.plan import Licence

__all__ = [
    "CommercialUse", "acceptance_digest", "commercial_use", "front_matter_licence", "permits_commercial_use", "spdx_id",
]  # fmt: skip

COMMERCIAL = frozenset({
    "0BSD", "AFL-3.0", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear", "BSL-1.0",
    "CC-BY-2.0", "CC-BY-2.5", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC0-1.0",
    "CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "ECL-2.0", "EUPL-1.2", "ISC", "LGPL-2.1-only", "LGPL-3.0-only", "MIT",
    "MIT-0", "MPL-2.0", "MS-PL", "MulanPSL-2.0", "NCSA", "PDDL-1.0", "PostgreSQL", "Unlicense", "WTFPL", "Zlib",
})  # fmt: skip

_SPELLINGS = {
    **{name.lower(): name for name in COMMERCIAL},
    "apache 2.0": "Apache-2.0", "apache2": "Apache-2.0", "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0", "apache software license": "Apache-2.0", "mit license": "MIT",
    "bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause", "the unlicense (unlicense)": "Unlicense",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0", "lgpl-2.1": "LGPL-2.1-only", "lgpl-3.0": "LGPL-3.0-only",
    "mulan psl v2": "MulanPSL-2.0", "mulanpsl-2.0": "MulanPSL-2.0", "cc0": "CC0-1.0",
}  # fmt: skip

_FORBIDS = re.compile(r"(?<![a-z])(nc|non-?commercial|research-only)(?![a-z])", re.IGNORECASE)
"""Words by which a licence's name says that it does not permit commercial use."""


class CommercialUse(msgspec.Struct, frozen=True):
    """Whether a model may be used for money, as far as is known, and why it is said."""

    verdict: Literal["yes", "no", "unknown"]
    reason: str


def commercial_use(licence: Licence) -> CommercialUse:
    """What the hub's permissions say, else the licence's name."""
    if licence.commercial == "yes":
        return CommercialUse("yes", f"The hub's permissions allow it: {licence.name}.")
    if licence.commercial == "no":
        return CommercialUse("no", f"The hub's permissions do not allow it: {licence.name}.")
    if not licence.name:
        return CommercialUse("unknown", "No licence is stated, and silence permits nothing.")
    if permits_commercial_use(licence.name):
        return CommercialUse("yes", f"{licence.name} permits it.")
    if _FORBIDS.search(licence.name):
        return CommercialUse("no", f"{licence.name} does not permit it.")
    return CommercialUse("unknown", f"{licence.name} has terms of its own: read them.")


def spdx_id(name: str) -> str:
    """The SPDX id for a licence as people write it; the name itself where none is known."""
    return _SPELLINGS.get(name.strip().lower(), name.strip())


def permits_commercial_use(name: str) -> bool:
    """For an id, or an expression of ids: each of an AND must, one of an OR is enough."""
    choices = re.split(r"\s+OR\s+", name.strip("() "))
    return any(all(spdx_id(part) in COMMERCIAL for part in re.split(r"\s+AND\s+", choice)) for choice in choices)


def acceptance_digest(licence: Licence) -> str:
    """SHA-256 of what is accepted: the name, and the text or address that was shown."""
    return hashlib.sha256(f"{licence.name}\n{licence.text}".encode()).hexdigest()


def front_matter_licence(readme: str) -> str:
    """The `license:` line of the YAML between the first `---` lines of a model card; empty when there is none."""
    match = re.match(r"\ufeff?---\s*\n(.*?)\n---", readme, re.DOTALL)
    line = re.search(r"^licen[sc]e:\s*[\"']?([\w.+ -]{1,60})", match[1], re.MULTILINE) if match else None
    return spdx_id(line[1]) if line else ""
