"""The page at /docs: what the service can do, on one page that loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2rem; } details { border-top: 1px solid #8886; padding: .5rem 0; }
summary { cursor: pointer; } code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: #8882; padding: .75rem; white-space: pre-wrap; overflow-wrap: anywhere; border-radius: 4px; }
.method { display: inline-block; min-width: 3.5rem; font-weight: 600; }
td { padding: .1rem .75rem .1rem 0; vertical-align: top; }
"""
EXAMPLES = {
    "POST /v1/chat/completions": """curl {base}v1/chat/completions -H 'Content-Type: application/json' -d '{{
  "model": "anyloom",
  "messages": [{{"role": "user", "content": "Say good morning aloud"}}]
}}'""",
    "POST /v1/requests": "curl {base}v1/requests -F text='Read this note aloud' -F files=@note.png",
    "GET /v1/requests/{name}/events": "curl -N {base}v1/requests/ID/events",
    "POST /v1/requests/{name}/approve": """curl {base}v1/requests/ID/approve \\
  -H 'Content-Type: application/json' -d '{{"drop": [1]}}'""",
    "POST /v1/files": "curl {base}v1/files -F file=@cat.png",
    "GET /v1/artifacts/{sha256}": "curl -OJ {base}v1/artifacts/SHA256",
    "POST /hugginggpt": """curl {base}hugginggpt -H 'Content-Type: application/json' \\
  -d '{{"messages": [{{"role": "user", "content": "Say good morning aloud"}}]}}'""",
}


def page(schema: Mapping[str, Any], base: str, token: bool) -> str:
    """HTML out of the OpenAPI document. `base` is the address of the service, with a slash at its end."""
    groups: dict[str, list[str]] = {}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if method != "head":
                groups.setdefault(operation.get("tags", ["service"])[0], []).append(
                    _operation(method.upper(), path, operation, base)
                )
    title = f"{escape(schema['info']['title'])} {escape(schema['info']['version'])}"
    key = " Every call needs the header <code>Authorization: Bearer TOKEN</code>." if token else ""
    body = "".join(f"<h2>{escape(name)}</h2>{''.join(entries)}" for name, entries in groups.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        f"<p>{escape(schema['info'].get('description', ''))}{key} "
        f'The same for programs: <a href="openapi.json">openapi.json</a>.</p>{body}</main></body></html>'
    )


def _fields(operation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The fields of a body: name, where it stands, what it is."""
    found: dict[str, tuple[str, str, str]] = {}
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content.get("schema", {})
        for one in schema.get("anyOf", [schema]):
            for name, field in one.get("properties", {}).items():
                place = "form" if kind.startswith("multipart") else "body"
                found.setdefault(name, (name, place, field.get("description", "")))
    return list(found.values())


def _operation(method: str, path: str, operation: Mapping[str, Any], base: str) -> str:
    """One entry."""
    given = [(p["name"], p["in"], p.get("description", "")) for p in operation.get("parameters", [])]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(place)}</td><td>{escape(words)}</td></tr>"
        for name, place, words in [*given, *_fields(operation)]
    )
    example = EXAMPLES.get(f"{method} {path}", "").format(base=base) if f"{method} {path}" in EXAMPLES else ""
    text = operation.get("description", "")
    return (
        f'<details><summary><span class="method">{method}</span> <code>{escape(path)}</code> '
        f"{escape(operation.get('summary', ''))}</summary>"
        + (f"<p>{escape(text)}</p>" if text else "")
        + (f"<table>{rows}</table>" if rows else "")
        + (f"<pre>{escape(example)}</pre>" if example else "")
        + "</details>"
    )
