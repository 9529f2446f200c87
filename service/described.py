"""``/docs``: the OpenAPI description as one page without scripts, readable where nothing else can be loaded."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any, Final

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f4f4f5;padding:.8rem;overflow:auto}
table{border-collapse:collapse;width:100%}td,th{border:1px solid #d4d4d8;padding:.3rem .6rem;text-align:left;vertical-align:top}
h2 code{background:#e4e4e7;padding:.1rem .4rem}
@media(prefers-color-scheme:dark){body{color:#e4e4e7;background:#18181b}pre,h2 code{background:#27272a}td,th{border-color:#3f3f46}}
"""


def _text(words: str) -> str:
    parts = escape(words).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _kind(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return " or ".join(_kind(option) for option in schema[word] if option.get("type") != "null")
    if "enum" in schema:
        return " · ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type", "any")))


def _operation(method: str, path: str, told: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method.upper()}</code> {escape(path)}</h2><p>{_text(told.get('summary', ''))}</p>"
    if told.get("description"):
        yield f"<p>{_text(told['description'])}</p>"
    for kind, content in told.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body <code>{escape(kind)}</code>: {_kind(content.get('schema', {}))}</p>"
        if "example" in content:
            yield f"<pre>{escape(json.dumps(content['example'], indent=1))}</pre>"
    yield "<table><tr><th>status</th><th>body</th><th>when</th></tr>"
    for status, response in told.get("responses", {}).items():
        contents: dict[str, Any] = response.get("content", {})
        schema: dict[str, Any] = next((content.get("schema", {}) for content in contents.values()), {})
        yield f"<tr><td>{escape(status)}</td><td>{_kind(schema) if schema else ''}</td><td>{_text(response['description'])}</td></tr>"
    yield "</table>"


def _model(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{escape(name)}">{escape(name)}</h3><p>{_text(schema.get("description", ""))}</p>'
    if "properties" not in schema:
        return
    yield "<table><tr><th>field</th><th>needed</th><th>type</th><th>what</th></tr>"
    for field, about in schema["properties"].items():
        needed = "yes" if field in schema.get("required", ()) else ""
        yield f"<tr><td><code>{escape(field)}</code></td><td>{needed}</td><td>{_kind(about)}</td><td>{_text(about.get('description', ''))}</td></tr>"
    yield "</table>"


def rendered(described: dict[str, Any]) -> str:
    """The page for an OpenAPI description."""
    info = described["info"]
    body = [f"<h1>{escape(info['title'])}</h1>"]
    body += [f"<p>{_text(part)}</p>" for part in info.get("description", "").split("\n\n") if part.strip()]
    body.append('<p>The same for programs: <a href="openapi.json">openapi.json</a></p>')
    for path, operations in described["paths"].items():
        for method, told in operations.items():
            body += _operation(method, path, told)
    body.append("<h2>Models</h2>")
    for name, schema in described.get("components", {}).get("schemas", {}).items():
        body += _model(name, schema)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(info["title"])}</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{"".join(body)}</body></html>'
