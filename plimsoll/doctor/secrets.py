"""Find what looks like a secret, and keep it out of what is printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

HIDDEN: Final = "***"
_NAMES: Final = re.compile(r"passw|passphrase|secret|token|api_?key|private_?key|credential", re.IGNORECASE)
_PASSWORD: Final = re.compile(r"://[^/\s@]*:[^/\s@]+@")
_QUERY: Final = re.compile(r"[?&][^=&]*(?:key|token|secret|passw|signature|auth)[^=&]*=[^&]+", re.IGNORECASE)
_IN_PATH: Final = re.compile(r"://\S+/[A-Za-z0-9_-]*(?=[A-Za-z0-9_-]{16})(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{16,}")
_BARE: Final = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_-]{32,}|\d{8,}:[A-Za-z0-9_-]{30,}")


def looks_secret(name: str, value: Any) -> bool:
    """Tell whether a setting looks like a secret: by its name, as a URL with password, key or token, or as a bare key."""
    if not isinstance(value, str) or not value.strip():
        return False
    if _NAMES.search(name) or _PASSWORD.search(value) or _QUERY.search(value) or _IN_PATH.search(value):
        return True
    return _BARE.fullmatch(value.strip()) is not None


def leaves(section: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and value of everything in a section."""
    if isinstance(section, Mapping):
        for name, value in section.items():
            yield from leaves(value, f"{path}.{name}" if path else str(name))
    elif isinstance(section, list | tuple):
        for value in section:
            yield from leaves(value, path)
    else:
        yield path, section


def secrets_of(config: Mapping[str, Any], *sections: Any) -> list[str]:
    """Return the values that nothing printed may hold: credentials anywhere, and what looks like one in the given sections."""
    found = [value for path, value in leaves(config) if _is_credential(path, value)]
    found += [value for section in sections for path, value in leaves(section) if looks_secret(path, value)]
    return sorted({value for value in found if value}, key=len, reverse=True)


def hide(text: str, secrets: list[str]) -> str:
    """Return a text without them."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return re.sub(r"(://[^/\s:@]*:)[^/\s@]+@", rf"\1{HIDDEN}@", text)


def _is_credential(path: str, value: Any) -> bool:
    if not isinstance(value, str) or len(value) < 4:
        return False
    name = path.rpartition(".")[2]
    return (path.startswith("exchange.") and name in ("key", "uid")) or bool(_NAMES.search(name))
