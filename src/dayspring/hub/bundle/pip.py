"""Running pip, with the index that this machine's pip is configured with."""

import asyncio
import logging
import sys

from dayspring.core.environment import child_environment
from dayspring.core.errors import Unavailable

__all__ = ["run_pip"]

log = logging.getLogger(__name__)


async def run_pip(*words: str) -> None:
    """Raises Unavailable with pip's own last word when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pip", "--disable-pip-version-check", *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=child_environment(),
    )  # fmt: skip
    try:
        noise, _ = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode == 0:
        return
    said = noise.decode("utf-8", "replace")
    log.error("pip %s said: %s", words[0], said[-4000:])
    if "No module named pip" in said:
        raise Unavailable("pip is not installed beside Dayspring", "Run 'python -m ensurepip' in its environment.")
    last = next((line for line in reversed(said.splitlines()) if line.startswith("ERROR")), "it gave no reason")
    raise Unavailable(
        f"pip could not gather the packages ({last[:300]})", "Check the index that pip is configured with."
    )
