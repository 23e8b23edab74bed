"""What two runs must have in common to share their limits: endpoint, model and key. It tells nobody the key."""

import hashlib
import hmac
from collections.abc import Iterable


def of(base_url: str, model: str, key: str, additions: Iterable[tuple[str, str]]) -> str:
    """Return the identity, 64 hexadecimal digits. additions: headers and parts of the query, which may name an account."""
    parts = [base_url.rstrip("/"), model, *(f"{name.lower()}={value}" for name, value in additions)]
    return hmac.new(f"runner limits {key}".encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()
