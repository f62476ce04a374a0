"""`python -m stack up` runs the embedded platform, for hands-on use and for other programs."""

import argparse
import json
import os
import signal
import sys
import threading

from stack.host import StackError
from stack.launch import VARIANTS, Stack

INTERRUPTED = 130
USAGE = """\
profile   {profile}
control   {control}
logs      {logs}

Run the suite against it:   {environ} pytest smoke/ --env {profile}
Turn a fault on:            curl -X PUT {control}/faults/ID     ({control}/faults lists them)
Reset everything:           curl -X POST {control}/reset
Stop it:                    Ctrl-C"""


def main(arguments: list[str] | None = None) -> int:
    """Start the platform, print how to use it, and run until SIGINT, SIGTERM or, with --json, EOF."""
    parser = argparse.ArgumentParser(prog="python -m stack", description="Run the embedded platform.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the platform and keep it running")
    up.add_argument("--json", action="store_true", help="print one JSON line; also stop when stdin is closed")
    up.add_argument(
        "--variant", default="", metavar="NAME[,NAME]", help=f"clean variants: {', '.join(VARIANTS)}"
    )
    options = parser.parse_args(arguments)
    ended = threading.Event()
    started = threading.Event()

    def end(*_: object) -> None:
        ended.set()
        if not started.is_set():
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        stack = Stack.start(name=options.variant)
    except StackError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    started.set()
    with stack:
        _announce(stack, as_json=options.json)
        if options.json:
            threading.Thread(target=_until_closed, args=(ended,), daemon=True).start()
        ended.wait()
    return 0


def _announce(stack: Stack, *, as_json: bool) -> None:
    profile, control = str(stack.profile_path), stack.control_url
    if as_json:
        text = json.dumps({"profile": profile, "control": control, "env": stack.environ})
    else:
        environ = " ".join(f"{name}={value}" for name, value in stack.environ.items())
        text = USAGE.format(profile=profile, control=control, logs=stack.run_dir / "logs", environ=environ)
    print(text, flush=True)  # noqa: T201


def _until_closed(ended: threading.Event) -> None:
    # Not through sys.stdin: its lock, held by a thread that still waits, aborts the interpreter at exit.
    while os.read(sys.stdin.fileno(), 4096):
        continue
    ended.set()


if __name__ == "__main__":
    sys.exit(main())
