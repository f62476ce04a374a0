"""Switches a mutant on in one service's process, and has the processes note which lines run."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stack import StackError
from stack.aws.inventory import ControlClient
from stack.mutants.catalogue import ENTRIES, excused, mutants, tree_mutants
from stack.mutants.process import MUTANT, NOW, NUMBER_BYTES, TRACE
from stack.services import python
from stack.source_tree import SourceTree
from stack.supervisor import Command, Supervisor

#: A service is ready within two seconds; a mutant that needs longer does not start.
STARTS_WITHIN_S = 15.0


class MutantBoard:
    """At most one mutant is on. Not thread-safe: the control API serialises its requests."""

    def __init__(
        self, supervisor: Supervisor, source: SourceTree, aws: ControlClient, directory: Path
    ) -> None:
        self._supervisor = supervisor
        self._source = source
        self._aws = aws
        self._directory = directory
        self._at_boot: dict[str, Command] = {}

    def listed(self) -> list[dict[str, Any]]:
        """Return every mutant as data."""
        services, tree = mutants().values(), tree_mutants().values()
        listed = [*(each.as_data() for each in services), *(each.as_data() for each in tree)]
        return [*listed, *map(excused, self._aws.mutants())]

    def set(self, mutant_id: str, service: str) -> str:
        """Restart a service with a mutant in it, and all others without; why it does not run, or "".

        One of the repository or of AWS is in no service: it is there until the next reset.

        Raises StackError for a mutant or a service that does not exist.
        """
        if (change := tree_mutants().get(mutant_id)) is not None and not service:
            self.clear()
            self._source.alter(mutant_id, {"path": change.file, "create": change.text})
            return ""
        if mutant_id.startswith("aws:") and not service:
            self.clear()
            self._aws.mutate(mutant_id)
            return ""
        mutant = mutants().get(mutant_id)
        if mutant is None or service not in mutant.as_data()["services"]:
            raise StackError(f"no mutant {mutant_id!r} in service {service!r}", "", "GET /mutants lists all")
        self.clear(but=service)
        try:
            self._exchange(service, {MUTANT: mutant_id})
        except StackError as error:
            return str(error)
        return ""

    def clear(self, but: str = "") -> None:
        """Restart what was altered as it was at boot, except one service."""
        for name in sorted(self._at_boot.keys() - {but}):
            self._supervisor.exchange(name, self._at_boot[name])
            del self._at_boot[name]

    def trace(self) -> None:
        """Restart every service in a process that notes which lines run."""
        self._directory.mkdir(exist_ok=True)
        self.mark(0)
        for name in ENTRIES.keys() & self._supervisor.services().keys():
            self._exchange(name, {TRACE: str(self._directory)})

    def mark(self, number: int) -> None:
        """Have the lines that run from now on count for this number."""
        with (self._directory / NOW).open("r+b" if (self._directory / NOW).exists() else "wb") as file:
            file.write(number.to_bytes(NUMBER_BYTES, "big"))

    def traced(self) -> dict[str, dict[str, dict[str, list[int]]]]:
        """Stop noting; return {service: {file: {line: [numbers]}}}."""
        self.clear()
        found: dict[str, dict[str, dict[str, list[int]]]] = {}
        for path in self._directory.glob("*.json"):
            files = found.setdefault(path.name.partition("-")[0], {})
            for number, file, line in json.loads(path.read_text("utf-8")):
                files.setdefault(file, {}).setdefault(str(line), []).append(number)
            path.unlink()
        return found

    def _exchange(self, name: str, environ: Mapping[str, str]) -> None:
        command = self._at_boot.setdefault(name, self._supervisor.command(name))
        # Without a file of faults it is honest: their subclasses would run in place of what is mutated.
        environ = {**command.environ, "STACK_FAULTS_FILE": "", **environ}
        argv = python("stack.mutants.process", name)
        self._supervisor.exchange(name, replace(command, argv=argv, environ=environ), STARTS_WITHIN_S)
