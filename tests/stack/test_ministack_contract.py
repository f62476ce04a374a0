"""The private parts of ministack that the platform uses, by name, so that a new version fails here first."""

import ast
import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest

STACK = Path(__file__).parents[2] / "stack"
INTERNALS = STACK / "aws" / "internals.py"
#: name -> its leading parameters, None for one that is no function
PRIVATE: dict[str, tuple[str, ...] | None] = {
    "core.responses.AccountRegionScopedDict._data": None,
    "core.responses.AccountScopedDict._data": None,
    "services.alb._ACTION_MAP": None,
    "services.alb._condition_xml": ("c",),
    "services.alb._describe_target_health": ("params",),
    "services.alb._p": None,
    "services.alb._targets": None,
    "services.cloudwatch._alarms": None,
    "services.cloudwatch._composite_alarms": None,
    "services.cloudwatch._calc_stats": ("points",),
    "services.cloudwatch._dims_key": ("dims",),
    "services.cloudwatch._dispatch_alarm_actions": ("alarm", "old_state", "new_state", "reason"),
    "services.cloudwatch._evaluate_alarm": ("alarm",),
    "services.cloudwatch._evaluate_all_alarms": (),
    "services.cloudwatch._evaluate_parent_alarms": ("child",),
    "services.cloudwatch._metrics": None,
    "services.cloudwatch._record_history": ("alarm_name", "old_state", "new_state", "reason"),
    "services.cloudwatch._stat_value": ("stats", "stat_name", "points"),
    "services.ec2._ACTION_MAP": None,
    "services.ec2._vpce_fields_xml": ("ep", "tag"),
    "services.ec2._xml": ("status", "root_tag", "inner"),
    "services.ecs._mark_task_stopped": ("task_arn", "task", "reason", "stop_code", "exit_code"),
    "services.ecs._services": None,
    "services.ecs._tasks": None,
    "services.secretsmanager._describe_secret": ("data",),
    "services.secretsmanager._resolve": ("secret_id",),
    "services.secretsmanager.handle_request": ("method", "path", "headers", "body", "query_params"),
    "services.sns._fanout": ("topic_arn", "msg_id", "message", "subject"),
    "services.sns._refresh_subscription_counts": ("topic",),
    "services.sns._topic_by_arn_any_scope": ("topic_arn",),
}  # fmt: skip


@pytest.mark.parametrize("name", PRIVATE)
def test_ministack_still_has(name: str) -> None:
    package, module, *attributes = name.split(".")
    found: Any = importlib.import_module(f"ministack.{package}.{module}")
    for attribute in attributes:
        found = getattr(found, attribute)
    expected = PRIVATE[name]
    if expected is not None:
        assert tuple(inspect.signature(found).parameters)[: len(expected)] == expected


def test_the_contract_names_all_that_is_used() -> None:
    services = {name.split(".")[1] for name in PRIVATE if name.startswith("services.")}
    used = {
        f"services.{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(INTERNALS.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in services
    }
    assert used == {name for name in PRIVATE if name.startswith("services.")}


def test_no_other_module_imports_ministack() -> None:
    found = {
        (path.name, node.module)
        for path in STACK.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ministack")
        if path != INTERNALS
    }
    assert found == {("server.py", "ministack.app")}
