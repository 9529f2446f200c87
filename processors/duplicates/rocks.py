"""RocksDB as the duplicate index wants it: random look-ups that mostly find nothing, little memory, no waiting for the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Final

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict

_CACHE_BYTES: Final = 128 * 1024**2
"""Blocks, and filters and block indexes too: those of 50 million ids take 75 MB."""
_MEMTABLE_BYTES: Final = 16 * 1024**2
_FILE_BYTES: Final = 16 * 1024**2
"""A file's filter is read whole: small files keep one read short."""
_FILTER_BITS: Final = 10
"""An id: one look-up in a hundred reads a block for nothing."""

_FOR_NOW: Final = (
    "no space left",
    "disk quota",
    "too many open files",
    "permission denied",
    "read-only file system",
    "cannot allocate memory",
)
_LOCKED: Final = ("while lock file", "lock hold by current process")


class IndexUnusableError(Exception):
    """The index is damaged, or belongs to another stream. Trying again does not help; a rebuild does."""


class IndexUnavailableError(Exception):
    """The disk is full, or the place may not be written: nothing is wrong with the index. Trying again helps once that is over."""


class IndexLockedError(IndexUnavailableError):
    """Another process has the index open. Trying again helps once that one is gone."""


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Gives RocksDB's errors, which are bare ``Exception`` with a text, a name."""
    try:
        yield
    except (IndexUnusableError, IndexUnavailableError):
        raise
    except Exception as error:
        text = f"{path}: {error}"
        lowered = text.lower()
        if any(word in lowered for word in _LOCKED):
            raise IndexLockedError(text) from error
        if isinstance(error, OSError) or any(word in lowered for word in _FOR_NOW):
            raise IndexUnavailableError(text) from error
        raise IndexUnusableError(text) from error


def _options() -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(Cache(_CACHE_BYTES))
    table.set_bloom_filter(_FILTER_BITS, block_based=False)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(_MEMTABLE_BYTES)
    options.set_max_write_buffer_number(4)
    # Misses leave the newest rows at once, too.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.05)
    options.set_target_file_size_base(_FILE_BYTES)
    options.set_level_compaction_dynamic_level_bytes(True)
    # Hashes do not compress.
    options.set_compression_type(DBCompressionType.none())
    # What was swept gives its place back.
    options.add_compact_on_deletion_collector_factory(8192, 4096, 0.5)
    options.set_max_background_jobs(2)
    options.set_max_open_files(512)
    options.set_table_cache_num_shard_bits(2)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1024**2)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options


def open_store(path: Path) -> Rdict:
    """Opens or creates the store at ``path``. Raises one of the errors above."""
    options = _options()
    with named(path):
        path.mkdir(parents=True, exist_ok=True)
        # Given by the family's name as well: options given otherwise are forgotten for a family that exists.
        return Rdict(str(path), options, column_families={"default": options})


def destroy_store(path: Path) -> None:
    """Removes a store nobody has open; raises IndexLockedError where somebody has."""
    if not path.exists():
        return
    try:
        with named(path):
            Rdict.destroy(str(path), Options(raw_mode=True))
    except IndexUnusableError:
        # Too damaged even for that.
        pass
    rmtree(path, ignore_errors=True)
