"""What options of every command line of this project have in common."""

from __future__ import annotations

import argparse

from .formats import is_one_line


def filled(text: str) -> str:
    """Refuse control characters, and an empty value: an unset variable in CI is no wish for the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("empty (next: give a value, or leave the option out)")
    if not is_one_line(text):
        raise argparse.ArgumentTypeError("a control character in it (next: give the value without)")
    return text
