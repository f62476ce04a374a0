"""What options of every command line of this project have in common."""

from __future__ import annotations

import argparse


def filled(text: str) -> str:
    """Refuse an empty value: a variable that is not set in CI is no wish for the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("empty (next: give a value, or leave the option out)")
    return text
