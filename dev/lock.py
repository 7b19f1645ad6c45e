"""Rewrites constraints.txt: the newest versions that pyproject.toml admits, as pip resolves them here and now.

Every extra and every dependency group is resolved at once in a throw-away environment, so that one list serves
`make serve` and `make test`. Run the tests before committing what it wrote: a constraint is a tested version.
It does not pin hashes: closed networks serve rebuilt wheels from their own index.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADER = """\
# Tested versions of everything that `make serve` and `make test` install. Made by `make lock`; not edited by hand.
"""


def resolved(python: Path) -> list[str]:
    """`name==version` of all that was installed but the project and the installer, sorted."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    )
    own = {"dayspring", "pip", "setuptools", "wheel"}
    return sorted((line for line in listed.stdout.split() if line.split("==")[0].lower() not in own), key=str.lower)


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"].values()
    wanted = [f"{ROOT}[all]", *(line for group in groups for line in group)]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = Path(folder, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "-qq", *wanted], check=True)
        lines = resolved(python)
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} versions")


if __name__ == "__main__":
    main()
