"""Typed keys for what the plugin keeps on pytest's objects; one key per value, created once."""

from __future__ import annotations

import pytest

from .catalogue import Check
from .context import RunContext
from .evidence import EvidenceLog, Parts
from .gating import Refusal

RUN: pytest.StashKey[RunContext] = pytest.StashKey()
CHECK: pytest.StashKey[Check] = pytest.StashKey()
EVIDENCE: pytest.StashKey[EvidenceLog] = pytest.StashKey()
REFUSAL: pytest.StashKey[Refusal] = pytest.StashKey()
PARTS: pytest.StashKey[Parts] = pytest.StashKey()
