"""A service's process with a mutant in it, or one that notes which lines run; and the board that starts them.

`STACK_MUTANT` is the id of the mutant that is compiled in when its module is imported. With `STACK_TRACE`, a
directory, the process notes the lines of the honest services that run, under the number in its file `now`.
"""

import atexit
import importlib
import importlib.util
import json
import mmap
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from stack.aws.inventory import ControlClient
from stack.host import StackError
from stack.mutants.catalogue import (
    ENTRIES,
    Mutant,
    excused,
    file_of,
    find,
    modules,
    mutants,
    path_of,
    tree_mutants,
)
from stack.services import python
from stack.source_tree import SourceTree
from stack.supervisor import Command, Supervisor

MUTANT, TRACE = "STACK_MUTANT", "STACK_TRACE"
NOW, NUMBER_BYTES = "now", 8
#: A service is ready within two seconds; a mutant that needs longer does not start.
STARTS_WITHIN_S = 15.0


class _MutantLoader(SourceFileLoader):
    """Loads a module from another text than its file's."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(mutant.path))
        self._source = mutant.source

    def get_code(self, _: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class MutantFinder(MetaPathFinder):
    """Finds one module, with a mutant in it."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = f"stack.{mutant.module}"
        self._mutant = mutant

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return the spec of the mutated module, None for any other."""
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(
            name, self._mutant.path, loader=_MutantLoader(name, self._mutant)
        )


class Tracer:
    """Notes (number, file, line) of every line of the honest services that runs in this thread."""

    def __init__(self, directory: Path, service: str) -> None:
        self._lines: set[tuple[int, str, int]] = set()
        self._file = directory / f"{service}-{os.getpid()}.json"
        self._files = {str(path_of(name)): file_of(name) for name in modules()}
        with (directory / NOW).open("rb") as file:
            self._now = mmap.mmap(file.fileno(), NUMBER_BYTES, access=mmap.ACCESS_READ)

    def start(self) -> None:
        """Begin; what was noted is written when the process ends."""
        atexit.register(self.write)
        sys.settrace(self._called)

    def write(self) -> None:
        """Write `[[number, file, line]]`."""
        sys.settrace(None)
        self._file.write_text(json.dumps(sorted(self._lines)), "utf-8")

    def _called(self, frame: FrameType, _: str, __: Any) -> Any:
        file = self._files.get(frame.f_code.co_filename)
        if file is None:
            return None

        def line(frame: FrameType, event: str, _: Any) -> Any:
            if event == "line":
                self._lines.add((int.from_bytes(self._now[:NUMBER_BYTES], "big"), file, frame.f_lineno))
            return line

        return line


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
        # Without a file of faults it is honest: faults are subclasses, and would replace the mutated code.
        environ = {**command.environ, "STACK_FAULTS_FILE": "", **environ}
        argv = python("stack.mutants.process", name)
        self._supervisor.exchange(name, replace(command, argv=argv, environ=environ), STARTS_WITHIN_S)


def main(argv: list[str]) -> int:
    """Serve as `stack.serve` does; 2 for an unknown mutant."""
    environ = os.environ
    if MUTANT in environ:
        mutant = find(environ[MUTANT])
        if mutant is None:
            sys.stderr.write(f"no such mutant: {environ[MUTANT]}\n")
            return 2
        sys.meta_path.insert(0, MutantFinder(mutant))
    if TRACE in environ:
        # uvicorn ends by sending itself the signal once more: without a handler nothing would be written.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        Tracer(Path(environ[TRACE]), argv[0]).start()
    return int(importlib.import_module("stack.serve").main(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
