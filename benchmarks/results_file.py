"""``benchmarks/results/latest.json``: what each part found last, and when."""

import os
import platform
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.parts.part import Figures, Part

DIRECTORY: Final = Path(__file__).parent / "results"
LATEST: Final = DIRECTORY / "latest.json"


def machine() -> Figures:
    """What was measured on."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}


def read(path: Path) -> Figures:
    """What is known; nothing where the file is missing, broken, or of an older kind."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("parts"), dict) else {}


def merged(
    known: Mapping[str, Any],
    part: Part,
    found: Figures | str,
    *,
    at: datetime,
    form: str,
    took_s: float,
    speed: float | None = None,
) -> Figures:
    """``known`` with what ``part`` found, or the reason why it found nothing: then its older figures are gone as well.

    ``speed``: what ``validate_json`` did in a second around it, for machines differ and this one may from hour to hour.
    """
    left = {key: value for key, value in known.items() if key not in part.keys}
    about: Figures = {"measured_at": at.isoformat(), "form": form, "took_s": round(took_s, 1)}
    if speed is not None:
        about["validate_json_per_s"] = round(speed)
    if isinstance(found, str):
        about["failed"] = found
        found = {}
    parts = {**left.pop("parts", {}), part.name: about}
    return left | found | {"parts": parts}


def write(path: Path, results: Figures) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2) + b"\n")
    beside.replace(path)
