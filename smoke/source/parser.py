"""Parsing of Terraform files, once per content: what was parsed is cached."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .hcl import Block

#: Part of a cached file's name: a change of the form makes older entries unreadable, so it gets a new number.
FORM = 2


@dataclass(frozen=True)
class Parser:
    """Parses files, remembering by content in `cache` (a directory, shared by any number of processes)."""

    cache: Path

    def parse(self, text: str, path: str) -> Block:
        """Return a file as one block without a type. Malformed names `path` and the line."""
        stored = self.cache / f"{self._form}-{hashlib.sha256(text.encode()).hexdigest()}.json"
        try:
            return Block.from_data(json.loads(stored.read_text("utf-8")))
        except (FileNotFoundError, ValueError):  # not there, or torn by a killed run
            pass
        from .grammar import convert  # its libraries take longer to import than many files to read

        block = convert(text, path)
        self.cache.mkdir(parents=True, exist_ok=True)
        new = stored.with_suffix(f".{os.getpid()}")
        new.write_text(json.dumps(block.to_data()), "utf-8")
        new.replace(stored)
        return block

    @cached_property
    def _form(self) -> str:
        from importlib.metadata import version

        return f"{FORM}-{version('python-hcl2')}"
