"""The page in a bundle that says what is in it and how to install it."""

from dayspring.hub.bundle.manifest import Manifest

__all__ = ["readme"]

_TEXT = """\
Dayspring {version}, for Python {python} on {platform}

Install, with no network and no package index:

    sh install.sh

It makes a virtual environment (./dayspring, or --into DIR) and adds the models to the data folder (~/.dayspring,
DAYSPRING_HOME or --home DIR). Then:

    ./dayspring/bin/dayspring serve

Before anything is used, every file is held to the hashes in manifest.json, and a file that is missing, changed or not
listed is named and refused. The manifest and the installer cannot vouch for themselves: compare the SHA-256 of the
whole file with the one that was shown when it was made.

A model whose licence does not permit commercial use is added only with --accept-licence WHO.

Models
{models}

Packages
{packages}
"""


def readme(manifest: Manifest) -> str:
    """Plain text."""
    models = [
        f"    {each.model.id}: {sum(file.size_bytes for file in each.files) >> 20} MiB, licence "
        f"{each.licence.name or 'not stated'}, from {each.model.source}"
        for each in manifest.models
    ]
    packages = [f"    {requirement.partition(' ')[0]}" for requirement in manifest.requirements]
    return _TEXT.format(
        version=manifest.version,
        python=manifest.python,
        platform=manifest.platform,
        models="\n".join(models) or "    none",
        packages="\n".join(packages),
    )
