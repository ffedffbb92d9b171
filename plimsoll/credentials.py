"""Which settings of an exchange are credentials; the one list of them, for whatever leaves them out or tells accounts apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

# As Freqtrade takes them, in both spellings.
CREDENTIALS: Final = frozenset(
    (
        *("key", "api_key", "apiKey", "secret", "password", "uid", "token"),
        *("account_id", "accountId", "wallet_address", "walletAddress", "private_key", "privateKey"),
    )
)


def without_credentials(exchange: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section ``exchange`` of a configuration without credentials, also without those in ``ccxt_config``."""
    return {
        name: without_credentials(value) if isinstance(value, Mapping) else value
        for name, value in exchange.items()
        if name not in CREDENTIALS
    }


def account_mark(exchange: Mapping[str, Any]) -> str:
    """Return what tells one account of an exchange from another and gives nothing of its key away; empty where no key is stated.

    Two keys of one account have two marks: an exchange does not say in the same way everywhere whose a key is.
    """
    # Without leading and trailing blanks: exchanges do not mind them.
    stated = [
        str(exchange.get(name) or "").strip()
        for name in ("wallet_address", "walletAddress", "key", "apiKey", "api_key")
    ]
    account = next((value for value in stated if value), None)
    if account is None:
        return ""
    # Slow on purpose, once a start: an address is public, and its mark could be looked up otherwise.
    salt = f"plimsoll {exchange.get('name')}"
    return hashlib.pbkdf2_hmac("sha256", account.encode(), salt.encode(), 100_000, 16).hex()
