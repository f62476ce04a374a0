"""The keys that sign, found once: a secret, and the kid under which its public half is published."""

from __future__ import annotations

from collections.abc import Callable

from .jwks import KeySet
from .tokens import SigningKey, private_key_of


class KeyRing:
    """Resolves one signing key. Only a success is remembered, so that a rerun asks again."""

    def __init__(self, secret: Callable[[], str], key_set: Callable[[], KeySet]) -> None:
        self._secret = secret
        self._key_set = key_set
        self._found: SigningKey | None = None

    def __call__(self) -> SigningKey:
        """The key; AssertionError when its public half is not published: then the platform is at fault."""
        if self._found is None:
            private = private_key_of(self._secret())
            keys = self._key_set()
            kid = keys.kid_of(private.public_key())
            if not kid:
                raise AssertionError(
                    f"{keys.route}: none of {len(keys.keys)} keys is the public half of the key that signs"
                )
            self._found = SigningKey(private, kid)
        return self._found

    def forget(self) -> None:
        """Ask again at the next use: the key was rotated."""
        self._found = None
