"""The one-shot migration: `STACK_ADMIN_DSN=... STACK_DB_PASSWORDS_FILE=... python -m stack.migrations`."""

import json
import os
import sys
from pathlib import Path

import psycopg

from stack.migrations import migrate


def main() -> int:
    """Apply what is missing; 0 when the schema is current, 1 with a short message when it is not."""
    try:
        passwords = json.loads(Path(os.environ["STACK_DB_PASSWORDS_FILE"]).read_text(encoding="utf-8"))
        applied = migrate(os.environ["STACK_ADMIN_DSN"], passwords, os.environ.get("STACK_SEED", ""))
    except KeyError as error:
        print(f"migrations: {error.args[0]} is missing from the environment or the file", file=sys.stderr)  # noqa: T201
        return 1
    except (OSError, ValueError, psycopg.Error) as error:
        print(f"migrations: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"migrations: applied {', '.join(applied) or 'nothing, the schema is current'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
