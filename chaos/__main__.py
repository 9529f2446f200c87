"""``python -m chaos [--seconds S] [--seed N] [--rate R] [--data DIR] [--keep] [--show] [--verbose]``."""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import structlog

from chaos import disks
from chaos.disks import Disk, NotPossibleError
from chaos.progress import Progress
from chaos.run import PRODUCERS, Options, Run
from chaos.schedule import DISKS, plan
from processors.runner import ALL

_BYTES_AN_EVENT = 6_000
"""In streams, index and warehouse together, with much to spare."""


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long there is load and trouble (default 60)")
    parser.add_argument("--seed", type=int, help="the schedule and the events; default: a new one, which is printed")
    parser.add_argument("--rate", type=float, default=300.0, help="events a second (default 300)")
    parser.add_argument("--data", type=Path, help="an empty directory to work in; default: a new one")
    parser.add_argument("--keep", action="store_true", help="keep the data even when all is well")
    parser.add_argument("--show", action="store_true", help="print the seed's schedule and do nothing")
    parser.add_argument("--verbose", action="store_true", help="tell every trouble")
    found = parser.parse_args(given)
    if found.seconds < 10:
        parser.error(f"--seconds {found.seconds:g}: at least 10, or nothing can happen")
    if found.rate <= 0:
        parser.error(f"--rate {found.rate:g}: more than 0")
    return found


def _mounted(data: Path, need_bytes: int, progress: Progress) -> list[Disk]:
    try:
        found = disks.mount(data, DISKS, need_bytes)
    except NotPossibleError as error:
        progress.line(
            f"chaos: full disks are not possible here: {error}. Streams are made full instead; a slow disk is a writer that halts"
        )
        return []
    if any(disk.kind == "tmpfs" for disk in found):
        progress.line("chaos: disks are in memory here: they can be full, a slow disk is a writer that halts")
    return found


def main(given: Sequence[str] | None = None) -> int:
    """0 when every promise was kept."""
    found = _arguments(given)
    seed = found.seed if found.seed is not None else random.SystemRandom().randrange(2**32)
    if found.show:
        print("\n".join(map(str, plan(seed, found.seconds, ALL, PRODUCERS))))
        return 0
    # The clients of this process see NATS die on purpose: what they say of it is of no interest.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    progress = Progress(verbose=found.verbose)
    data: Path = found.data.absolute() if found.data else Path(tempfile.mkdtemp(prefix="agentops-chaos-"))
    data.mkdir(parents=True, exist_ok=True)
    if any(data.iterdir()):
        progress.line(f"chaos: {data} is not empty: choose another directory with --data")
        return 2
    progress.line(f"chaos: seed {seed}, {found.seconds:g} s, {found.rate:g} events/s, data in {data}")
    mounted = _mounted(data, int(found.seconds * found.rate * _BYTES_AN_EVENT), progress)
    run = Run(Options(seed, found.seconds, found.rate, data), mounted, progress)
    keep, code = True, 1
    try:
        outcome = asyncio.run(run.all())
    except KeyboardInterrupt:
        progress.line("chaos: interrupted")
        keep, code = found.keep, 130
    except Exception as error:  # noqa: BLE001 - whatever ended the run: its data are evidence, and are kept
        progress.line("".join(traceback.format_exception(error)))
        progress.line(f"chaos: the run itself failed; seed {seed}")
    else:
        for violation in outcome.violations:
            progress.line(f"chaos: {violation}")
        keep = found.keep or bool(outcome.violations)
        code = 1 if outcome.violations else 0
        progress.line("")
        print(outcome.figures.line(), flush=True)
    if not keep:
        _remove(data, mounted)
    else:
        if mounted:
            disks.keep(mounted)
        progress.line(f"chaos: data, logs and journals are kept in {data}")
    return code


def _remove(data: Path, mounted: Sequence[Disk]) -> None:
    for disk in mounted:
        disks.unmount(disk)
    shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
