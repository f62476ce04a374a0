"""A minimal platform for tests of the self-test: one service and a control port on one socket.

Faults change what the service answers; the last ones are about the control port itself.
"""

import json
import os
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FILE = "api.py"


def mutant(name: str, line: int, **more: Any) -> dict[str, Any]:
    """Return a mutant as a platform lists it."""
    place = {"group": "answers", "operator": "string", "file": FILE, "line": line, "lines": [line, line]}
    return {"id": name, **place, "before": "a", "after": "b", "services": ["api"], **more}


#: Line 1 runs for each answer, line 2 for each note, line 3 never.
MUTANTS = (
    mutant("moody", 1),
    mutant("unseen", 1),
    mutant("forgetful", 2, group="notes"),
    mutant("lasting", 1, lines=[], group="for good"),
    mutant("unreached", 3),
    mutant("broken", 1),
    mutant("stubborn", 1, group="refused"),
    mutant("elsewhere", 3, group="variants", variant="calm"),
    mutant("alike", 1, equivalent="it is only shorter"),
)

PROFILE = """
name = "local"
live = false
[api]
url = "{url}"
"""


class State:
    """The platform's state: active faults and stored notes."""

    def __init__(self) -> None:
        self.active: dict[str, Any] = {}
        self.switched: Counter[str] = Counter()
        self.notes: list[str] = []
        self.secretly_sick = False
        self.asked = 0
        self.mutant = self.variant = ""
        self.number: int | None = None
        self.ran: dict[str, list[int]] = {}

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        if path.startswith("/faults/"):
            return self.switch(method, path.removeprefix("/faults/"), body)
        if path.startswith(("/mutants", "/trace")):
            return self.mutate(method, path)
        match method, path:
            case "GET", "/faults":
                return 200, {"active": self.active}
            case "POST", "/reset":
                return self.reset()
            case "GET", "/state":
                return 200, {"digest": ",".join(self.notes) or "empty"}
            case "POST", "/notes":
                self.run(2)
                self.notes.append("a note")
                return (500 if self.mutant == "forgetful" else 200), {}
            case "GET", "/health":
                return self.health()
        return 404, {"message": f"{method} {path}"}

    def switch(self, method: str, fault: str, body: Any) -> tuple[int, dict[str, Any]]:
        if fault == "impossible":
            return 409, {"message": "this cannot be done"}
        self.asked = 0
        if method == "PUT":
            self.switched[fault] += 1
            self.active[fault] = body
        else:
            del self.active[fault]
            self.secretly_sick |= fault == "incurable"
            if fault == "indelible":
                self.notes.append("indelible")
        return 200, {}

    def mutate(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        name = path.rpartition("/")[2]
        match method, name:
            case "GET", "mutants":
                return 200, {"mutants": [] if "SCENE_IMMUTABLE" in os.environ else MUTANTS}
            case "POST", "trace":
                self.number = 0
            case "DELETE", "trace":
                self.number = None
                return 200, {"lines": {"api": {FILE: self.ran}}}
            case "PUT", _ if name.isdecimal():
                self.number = int(name)
            case "PUT", "stubborn":
                return 409, {"message": "it cannot be done"}
            case "PUT", "broken":
                return 200, {"runs": False, "message": "SyntaxError"}
            case "PUT", _:
                self.mutant = name
                with Path("tried.txt").open("a") as file:
                    file.write(f"{name}\n")
                return 200, {"runs": True}
        return 200, {}

    def run(self, line: int) -> None:
        if self.number:
            self.ran.setdefault(str(line), []).append(self.number)

    def reset(self) -> tuple[int, dict[str, Any]]:
        if self.mutant != "lasting":
            self.mutant = ""
        if "SCENE_FORGETS_NOTHING" not in os.environ:
            self.notes = [note for note in self.notes if note == "indelible"]
        if "SCENE_MORTAL" in os.environ:
            return 200, {"digest": "empty", "restarted": ["api"]}
        return 200, {}

    def health(self) -> tuple[int, dict[str, Any]]:
        self.asked += 1
        self.run(1)
        if "down" in self.active or self.secretly_sick or self.is_late:
            return 503, {"status": "down"}
        if "outage" in self.active:
            return 503, {"status": "provider down"}
        if "flaky" in self.active and self.asked == 1:
            return 502, {"status": "restarting"}
        return 200, {"status": "ok", "mood": "low" if self.is_low else "high"}

    @property
    def is_late(self) -> bool:
        """Whether the fault is on that takes effect only the second time it is switched on."""
        return "late" in self.active and self.switched["late"] == 2

    @property
    def is_low(self) -> bool:
        if self.mutant == "elsewhere":
            return self.variant == "calm"
        return "moody" in self.active or self.mutant in ("moody", "lasting")


def main() -> None:
    state = State()
    if "SCENE_SICK" in os.environ:
        state.secretly_sick = True
    state.variant = "".join(sys.argv[2:])
    if "moody" in state.variant.split(","):
        state.active["moody"] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = state.answer(self.command, self.path, json.loads(raw or b"{}"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_PUT = do_POST = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    profile = Path.cwd() / f"profile-{os.getpid()}.toml"
    profile.write_text(PROFILE.format(url=url))
    Path(f"platform-{os.getpid()}.pid").write_text("running")
    print(json.dumps({"profile": str(profile), "control": url, "env": {"SCENE": "on"}}), flush=True)
    sys.stdin.read()
    server.shutdown()
    Path(f"platform-{os.getpid()}.pid").write_text("stopped")


if __name__ == "__main__":
    main()
