"""Workflows are read as GitHub reads them, and invalid ones are named."""

import pytest

from smoke.source.checkout import Malformed
from smoke.source.pipeline.repository import read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "w.yml:1: not valid YAML"),
        ("name: x", "w.yml: there are no jobs"),
        ("jobs:\n  a:\n    needs: b\n", "w.yml:2: a needs b, which is not a job"),
        ("jobs:\n  a:\n    needs: {b: 1}\n", "w.yml:2: what a needs is neither a job"),
        ("jobs:\n  a:\n    needs: b\n  b:\n    needs: a\n", "need each other in a circle"),
    ],
)
def test_what_is_not_a_workflow_is_named(text: str, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        read(text, "w.yml")
    assert said in str(caught.value)


def test_lines_are_those_of_the_file() -> None:
    found = read(
        "on: push\njobs:\n  a:\n    steps:\n      - run: x\n      - name: y\n        run: z\n", "w.yml"
    )
    assert (found.jobs["a"].line, [step.line for step in found.jobs["a"].steps]) == (3, [5, 6])
