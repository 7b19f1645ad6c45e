"""The string formats that are enforced, as patterns whose every match is valid by its RFC and by jsonschema's checker.

Each is a subset: a date has a four-digit year from 1000, a time no leap second, a URI a host. Formats that are not here
are annotations, as JSON Schema has it, and constrain nothing.
"""

from typing import Final

__all__ = ["FORMATS"]

_MONTHS: Final = (
    r"(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
)
_DATE: Final = rf"(?:[1-9][0-9]{{3}}-(?:{_MONTHS})|[1-9][0-9](?:0[48]|[2468][048]|[13579][26])-02-29)"
_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_LABEL: Final = r"[a-z0-9]{1,15}(?:-[a-z0-9]{1,15})?"
_HOST: Final = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}"
_DOMAIN: Final = rf"{_LABEL}(?:\.{_LABEL}){{0,2}}\.[a-z]{{2,12}}"
_BYTE: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_HEX: Final = r"[0-9a-fA-F]"
_GROUP: Final = rf"{_HEX}{{1,4}}"
_STEP: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})"
_PATH: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})"


def _ipv6() -> str:
    """Eight groups, or fewer around one '::'."""
    forms = [rf"{_GROUP}(?::{_GROUP}){{7}}"]
    for left in range(8):
        head = rf"{_GROUP}(?::{_GROUP}){{{left - 1}}}" if left else ""
        tail = rf"(?:{_GROUP}(?::{_GROUP}){{0,{6 - left}}})?" if left < 7 else ""
        forms.append(f"{head}::{tail}")
    return "|".join(forms)


_URI: Final = rf"[a-z][a-z0-9+]{{1,9}}://{_HOST}(?::[1-9][0-9]{{0,3}})?(?:/{_PATH}*)?(?:\?{_PATH}*)?(?:#{_PATH}*)?"
_AMOUNT: Final = r"[1-9][0-9]{0,3}"

FORMATS: Final[dict[str, str]] = {
    name: f"^(?:{pattern})$"
    for name, pattern in {
        "date": _DATE,
        "time": _TIME,
        "date-time": rf"{_DATE}T{_TIME}",
        "duration": rf"P(?:{_AMOUNT}[YMWD]|{_AMOUNT}DT{_AMOUNT}[HMS]|T{_AMOUNT}[HMS])",
        "email": rf"[A-Za-z0-9_%+-]{{1,32}}(?:\.[A-Za-z0-9_%+-]{{1,32}}){{0,2}}@{_DOMAIN}",
        "idn-email": rf"[A-Za-z0-9_%+-]{{1,32}}(?:\.[A-Za-z0-9_%+-]{{1,32}}){{0,2}}@{_DOMAIN}",
        "hostname": _HOST,
        "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
        "ipv6": _ipv6(),
        "uri": _URI,
        "uri-reference": rf"{_URI}|/(?:{_STEP}{_PATH}*)?",
        "iri": _URI,
        "uuid": rf"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}",
    }.items()
}
