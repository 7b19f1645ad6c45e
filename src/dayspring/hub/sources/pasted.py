"""What people paste: the address of a model's page at a hub, read as the source it means.

Pages are known by the hubs' own hosts and by the endpoints in the settings. Any other address stays what it is: a file
to fetch.
"""

import re
from urllib.parse import parse_qs, unquote, urlsplit

from dayspring.core.settings import Settings

__all__ = ["source_of_page"]

_HUGGING_FACE = frozenset({"huggingface.co", "hf.co"})
_MODELSCOPE = frozenset({"modelscope.cn", "modelscope.ai"})
_CIVITAI = frozenset({"civitai.com", "civitai.red", "civitai.green"})
_OWNER = r"/(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+)"
_HF_PAGE = re.compile(rf"{_OWNER}(?:/(?:tree|blob|resolve)/(?P<revision>[^/]+)(?:/(?P<file>.+))?)?/?", re.ASCII)
_MODELSCOPE_PAGE = re.compile(
    rf"/models{_OWNER}(?:/(?:file/view|resolve)/(?P<revision>[^/]+)/(?P<file>.+)|/(?:summary|files))?/?", re.ASCII
)
_CIVITAI_FILE = re.compile(r"/api/download/models/(\d+)/?")
_CIVITAI_VERSION = re.compile(r"/(?:api/v1/)?model-versions/(\d+)/?")
_CIVITAI_MODEL = re.compile(r"/models/(\d+)(?:/[^/]*)?/?")


def source_of_page(text: str, settings: Settings) -> str:
    """`hf:`, `modelscope:` or `civitai:` for a page of theirs, else the text as it is."""
    parts = urlsplit(text.strip())
    host = (parts.hostname or "").removeprefix("www.")
    if parts.scheme not in ("http", "https") or parts.username or parts.password:
        return text
    if host in _HUGGING_FACE or host == _host(settings.hf_endpoint):
        return _repository("hf", _HF_PAGE, parts.path, text)
    if host in _MODELSCOPE or host == _host(settings.modelscope_endpoint):
        return _repository("modelscope", _MODELSCOPE_PAGE, parts.path, text)
    if host in _CIVITAI or host == _host(settings.civitai_endpoint):
        return _civitai(parts.path, parts.query, text)
    return text


def _repository(scheme: str, page: re.Pattern[str], path: str, text: str) -> str:
    match = page.fullmatch(unquote(path))
    if not match:
        return text
    revision = f"@{match['revision']}" if match["revision"] else ""
    inside = f"#{match['file'].rstrip('/')}" if match["file"] else ""
    return f"{scheme}:{match['name']}{revision}{inside}"


def _civitai(path: str, query: str, text: str) -> str:
    version = parse_qs(query).get("modelVersionId", [""])[0]
    if version.isdigit():
        return f"civitai:{version}"
    if match := _CIVITAI_FILE.fullmatch(path) or _CIVITAI_VERSION.fullmatch(path):
        return f"civitai:{match[1]}"
    if match := _CIVITAI_MODEL.fullmatch(path):
        return f"civitai:models/{match[1]}"
    return text


def _host(endpoint: str) -> str:
    """Of a mirror with a name of its own; an address of this machine is shared by too much to mean one hub."""
    host = (urlsplit(endpoint).hostname or "").removeprefix("www.")
    return "" if host in ("localhost", "127.0.0.1", "::1") else host
