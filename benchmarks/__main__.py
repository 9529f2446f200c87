"""``python -m benchmarks [PART…]``: measures the system on this machine, shows tables, writes ``benchmarks/results/latest.json``."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
import uvloop
from rich.console import Console

from benchmarks import forms, results_file, tables, workload
from benchmarks.parts.catalogue import PARTS
from benchmarks.parts.limits import validate_json
from benchmarks.parts.part import Bench, Figures, Part

_UNTRUSTED: Final = 1.5
"""Load average per core above which figures say more about the neighbours."""
_PROBED: Final = 5_000
"""Events that tell how fast the machine is, before and after each part."""


def chosen(named: Sequence[str]) -> list[Part]:
    """The parts of these names, in their order; all that run unasked where none is named. Raises KeyError."""
    if not named:
        return [part for part in PARTS.values() if part.unasked]
    unknown = [name for name in named if name not in PARTS]
    if unknown:
        raise KeyError(", ".join(unknown))
    return [part for part in PARTS.values() if part.name in named]


def measure(part: Part, form: forms.Form, arguments: argparse.Namespace) -> Figures | str:
    """What ``part`` finds; why not, where it fails: the others go on."""
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"bench {time.monotonic() - began:5.0f} s  {part.name}: {what}", file=sys.stderr, flush=True)

    # Beside the results, and so on the same disk as everything else, which a temporary directory may not be.
    arguments.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f"bench-{part.name}-", dir=arguments.directory, ignore_cleanup_errors=True
    ) as directory:
        bench = Bench(form, Path(directory), arguments.directory, say, arguments.minutes, arguments.rate)
        try:
            return uvloop.run(part.run(bench))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001
            say(f"failed: {type(error).__name__}: {error}")
            return f"{type(error).__name__}: {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, shows, writes; 1 when something of ours could not be measured."""
    names = ", ".join(PARTS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, epilog=f"parts: {names}")
    parser.add_argument("parts", nargs="*", metavar="PART", help="which parts (default: all but soak)")
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="the same")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--short", action="store_const", const=forms.SHORT, dest="form", help="little of everything: under three minutes"
    )
    form.add_argument(
        "--full", action="store_const", const=forms.FULL, dest="form", help="50 M events and longer runs: over an hour"
    )
    parser.add_argument("--minutes", type=float, default=60, help="how long soak lasts (default: %(default)g)")
    parser.add_argument("--rate", type=int, default=1_000, help="events a second of soak (default: %(default)d)")
    parser.add_argument(
        "--directory",
        type=Path,
        default=results_file.DIRECTORY,
        help="where the systems' files and what is kept lie (default: %(default)s)",
    )
    parser.set_defaults(form=forms.STANDARD)
    given = parser.parse_args(arguments)
    try:
        parts = chosen([*given.parts, *given.only])
    except KeyError as error:
        parser.error(f"no such part: {error.args[0]} (there are {names})")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    if busy > _UNTRUSTED:
        print(f"bench: this machine is busy with something else (load {busy:.1f} a core): figures will be low", file=sys.stderr)
    results = results_file.read(results_file.LATEST)
    failed = False
    events = list(workload.generate(_PROBED, 0))
    for part in parts:
        before = validate_json(events)
        began = time.monotonic()
        found = measure(part, given.form, given)
        took_s = time.monotonic() - began
        failed = failed or isinstance(found, str) or (part.ours and incomplete(found))
        results = results_file.merged(
            results,
            part,
            found,
            at=datetime.now(UTC),
            form=given.form.name,
            took_s=took_s,
            speed=(before + validate_json(events)) / 2,
        ) | {"machine": results_file.machine() | {"load_before": busy}, "measured_at": datetime.now(UTC).isoformat()}
        # After each: what is measured is kept, whatever becomes of the rest.
        results_file.write(results_file.LATEST, results)
    tables.show(results, {key for part in parts for key in part.keys}, Console() if sys.stdout.isatty() else Console(width=140))
    print(f"written to {os.path.relpath(results_file.LATEST)}; {names_of_earlier(results, parts)}")
    return 1 if failed else 0


def incomplete(found: object) -> bool:
    """Whether something in ``found`` could not be measured."""
    return isinstance(found, dict) and ("failed" in found or any(incomplete(inner) for inner in found.values()))


def names_of_earlier(results: Figures, parts: Sequence[Part]) -> str:
    """Which figures in the file are of an earlier run."""
    earlier = [name for name in results["parts"] if name not in {part.name for part in parts}]
    return f"of earlier runs: {', '.join(earlier)}" if earlier else "all of this run"


if __name__ == "__main__":
    sys.exit(main())
