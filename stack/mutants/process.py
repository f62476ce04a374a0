"""A service's process with a mutant in it, or one that notes which lines run.

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
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from stack.mutants.catalogue import Mutant, file_of, find, modules, path_of

MUTANT, TRACE = "STACK_MUTANT", "STACK_TRACE"
NOW, NUMBER_BYTES = "now", 8


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


def main(argv: list[str]) -> int:
    """Serve as `stack.service` does; 2 for an unknown mutant."""
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
    return int(importlib.import_module("stack.service").main(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
