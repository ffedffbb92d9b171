"""Which settings of an exchange are credentials; the one list of them, for whatever leaves them out."""

from __future__ import annotations

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
