"""What is in a bundle: every file with its hash, and the models that they make. Plain values, as JSON in the bundle."""

import msgspec

from dayspring.contracts.models import Model
from dayspring.core.errors import Refused
from dayspring.hub.formats.names import check_name
from dayspring.hub.plan import Licence

__all__ = ["MANIFEST", "TOP", "BundledFile", "BundledModel", "Manifest", "read_manifest"]

MANIFEST = "manifest.json"
TOP = "dayspring-bundle"
"""The one folder in the archive."""
FORMAT = 1


class BundledFile(msgspec.Struct, frozen=True):
    path: str
    """Below the bundle's folder."""
    sha256: str
    size_bytes: int


class BundledModel(msgspec.Struct, frozen=True):
    model: Model
    """As it was where the bundle was made, without its path."""
    licence: Licence
    files: tuple[BundledFile, ...]
    """Each `models/<id>/<path in the model>`."""

    def name_of(self, file: BundledFile) -> str:
        """The file's path in the model."""
        return file.path.split("/", 2)[2]


class Manifest(msgspec.Struct, frozen=True):
    format: int
    version: str
    """Of Dayspring."""
    python: str
    """`3.11`: what the packages in it were chosen for."""
    platform: str
    requirements: tuple[str, ...]
    """`name==version --hash=sha256:...`, Dayspring itself last."""
    files: tuple[BundledFile, ...]
    """Every file but this one."""
    models: tuple[BundledModel, ...]
    created_at: int = 0


def read_manifest(data: bytes, where: str) -> Manifest:
    """Raises Refused for what is no manifest of a bundle, for an unsafe name, and for one of a later format."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, RecursionError):
        raise Refused(file=where, rule="its manifest cannot be read", remedy="Make the bundle again.") from None
    if manifest.format != FORMAT:
        raise Refused(
            file=where, rule="it was made by another release's bundle command", remedy="Use that release to read it."
        )
    for file in manifest.files:
        check_name(file.path, where=where)
    listed = {file.path: file for file in manifest.files}
    for model in manifest.models:
        for file in model.files:
            if listed.get(file.path) != file or file.path.count("/") < 2 or not file.path.startswith("models/"):
                raise Refused(file=f"{where}: {file.path}", rule="it is not listed", remedy="Make the bundle again.")
    return manifest
