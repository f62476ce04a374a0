"""`python -m smoke.contract`: write the OpenAPI documents into `docs/`."""

from pathlib import Path

from .openapi import FILES, text

if __name__ == "__main__":
    for service, name in FILES.items():
        path = Path("docs", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text(service), encoding="utf-8")
        print(path)  # noqa: T201
