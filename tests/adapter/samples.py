"""The files of a scenario before a test changes them."""

PLAN = """
schema_version = 1
title = "Scenario"
suite = "smoke"
phases = ["health", "work", "late"]
not_waivable = ["work/money*"]
[[goal]]
id = "G-1"
title = "It is up"
[[goal]]
id = "G-2"
title = "It works"
[[goal]]
id = "G-7"
title = "Three greens"
streak = true
"""
SCHEMA = """
[section.api.url]
type = "url"
required = true
env = "API_URL"
[section.api.dialect]
type = "choice"
allowed = ["plain", "fancy"]
default = "plain"
[section.auth.key]
type = "secret"
format = "p256-pem"
env = "AUTH_KEY_FILE"
env_kind = "file"
[section.auth.token]
type = "secret"
[section.extra.url]
type = "url"
[section.extra.reachable]
type = "bool"
[capability.token]
needs = ["auth.token"]
[capability.extra]
needs = ["extra.url"]
reachable = "extra.reachable"
[capability.drill]
option = "drills"
"""
LOCAL = """
name = "local"
live = false
[api]
url = "http://127.0.0.1:9"
[auth]
token = "env:SCENARIO_TOKEN"
[extra]
url = "http://127.0.0.1:9"
reachable = false
"""
HEADER = """
import os, pathlib, threading, time
import pytest
from pytest_readiness import ExternalOutage, SafetyViolation, SetupError

pytestmark = [pytest.mark.goal("G-1"), pytest.mark.phase("{phase}")]

def passing(evidence):
    evidence.figure("answer", 42)

"""
