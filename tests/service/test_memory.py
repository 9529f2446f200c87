"""Memory of processes that work in batches."""

import resource
import subprocess
import sys

import pytest

from service.memory import suit_batches

_BATCHES = 20
_MOST_FAULTS_A_BATCH = 50


def faults_a_batch() -> float:
    """Pages the kernel had to provide for each batch of sixteen megabytes."""

    def batch() -> None:
        kept = [bytes(1000) for _ in range(16_000)]
        kept.clear()

    batch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(_BATCHES):
        batch()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / _BATCHES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of other systems has its own manners")
def test_what_a_batch_frees_the_next_takes_again() -> None:
    """Without it every batch has thousands of pages zeroed."""
    # In a process of its own: it is not undone.
    done = subprocess.run([sys.executable, "-m", "tests.service.test_memory"], capture_output=True, text=True, check=True)
    assert float(done.stdout) < _MOST_FAULTS_A_BATCH


if __name__ == "__main__":
    suit_batches()
    print(faults_a_batch())
