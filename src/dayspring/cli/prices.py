"""`dayspring prices`: what customers pay for a model, and what an upstream takes."""

from typing import Annotated, Any

import typer

from dayspring.cli.terminal import AsJson, Home, in_house, print_json, print_table, warn
from dayspring.core.errors import InvalidRequest
from dayspring.core.money import Rate, Unit, format_amount, parse_amount
from dayspring.ledger.prices import Kind, PriceRequest, PriceVersion
from dayspring.server.house import House

__all__ = ["app"]

app = typer.Typer(help="The price book.", no_args_is_help=True)

_MILLION = 1_000_000


@app.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="A model's id, or '*' for all without a price of their own.")],
    input_: Annotated[str | None, typer.Option("--input", help="For a million input tokens, e.g. 0.15.")] = None,
    cached: Annotated[str | None, typer.Option(help="For a million cached input tokens; without: as input.")] = None,
    output: Annotated[str | None, typer.Option(help="For a million output tokens.")] = None,
    request: Annotated[str | None, typer.Option(help="Flat, for each request.")] = None,
    device_second: Annotated[str | None, typer.Option(help="For a second of measured device time.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Set what this upstream target takes instead.")] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Set what batch work pays instead.")] = False,
    home: Home = None,
) -> None:
    """Begin a new price version now. What is settled keeps the old one."""
    if batch and upstream:
        raise InvalidRequest("A price is for batch work or for an upstream, not both. Set them one by one.")
    said = (
        (Unit.INPUT_TOKEN, input_, _MILLION),
        (Unit.CACHED_TOKEN, cached, _MILLION),
        (Unit.OUTPUT_TOKEN, output, _MILLION),
        (Unit.REQUEST, request, 1),
        (Unit.DEVICE_SECOND, device_second, 10**9),
    )
    rates = {unit: Rate(parse_amount(amount), per) for unit, amount, per in said if amount is not None}
    if not rates:
        raise InvalidRequest("No price was given. Name at least one, such as --input 0.15 --output 0.60.")
    kind: Kind = "upstream" if upstream else "batch" if batch else "price"
    wanted = PriceRequest(model_id=model, rates=rates, kind=kind, target=upstream or "", created_by="cli")

    async def work(house: House) -> PriceVersion:
        if model != "*" and model not in {each.id for each in await house.hub.list()}:
            warn(
                f"there is no model {model!r} here; the price waits for one of that name. See 'dayspring models list'."
            )
        return await house.prices.set(wanted)

    version = in_house(home, work, makes=True)
    print(f"Price version {version.id} of {model!r} is in force.")


@app.command("list")
def list_all(as_json: AsJson = False, home: Home = None) -> None:
    """List every price version."""
    versions = in_house(home, lambda house: house.prices.versions())
    if as_json:
        print_json([_as_dict(version) for version in versions])
        return
    rows = [(version.id, version.model_id, _payer(version), _spelled(version)) for version in versions]
    print_table((">Version", "Model", "Paid by or to", "Rates"), rows, empty="No price is set: every model is free.")


def _payer(version: PriceVersion) -> str:
    return version.target or ("customers, batch work" if version.kind == "batch" else "customers")


def _spelled(version: PriceVersion) -> str:
    words = []
    for unit, rate in version.rates.items():
        per = {_MILLION: "1M ", 10**9: "", 1: ""}.get(rate.per, f"{rate.per} ")
        words.append(f"{format_amount(rate.amount_nanos)} / {per}{unit.value.replace('_', ' ')}")
    return ", ".join(words) or "free"


def _as_dict(version: PriceVersion) -> dict[str, Any]:
    return {
        "id": version.id,
        "model": version.model_id,
        "kind": version.kind,
        "target": version.target,
        "effective_from": version.effective_from_ns // 10**9,
        "rates": {unit.value: {"amount_nanos": r.amount_nanos, "per": r.per} for unit, r in version.rates.items()},
    }
