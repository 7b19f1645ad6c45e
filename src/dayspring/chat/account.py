"""What a key may see of a request's account."""

from typing import Any

from dayspring.accounts.principals import Principal
from dayspring.dispatch.values import Receipt

__all__ = ["account_headers", "account_object"]


def account_object(receipt: Receipt, principal: Principal) -> dict[str, Any]:
    """What the key may see of the request's account, in nano-units: its price; an administrator the rest too."""
    if not principal.sees_cost:
        return {}
    account: dict[str, Any] = {"price_nanos": receipt.price_nanos}
    if principal.is_admin:
        account |= {
            "cost_nanos": receipt.cost_nanos,
            "margin_nanos": receipt.margin_nanos,
            "device": receipt.device,
            "busy_ns": receipt.busy_ns,
        }
    return account


def account_headers(receipt: Receipt, principal: Principal) -> dict[str, str]:
    """The same, as the headers of a whole answer."""
    account = account_object(receipt, principal)
    return {f"x-dayspring-{name.replace('_', '-')}": str(value) for name, value in account.items()}
