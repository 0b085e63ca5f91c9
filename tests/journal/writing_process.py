"""A process that writes a journal on a real event loop, for tests that kill it or take its disk away.

python -m tests.journal.writing_process FOLDER endless          says each number once it is flushed, for ever
python -m tests.journal.writing_process FOLDER count N BYTES    N records of so many bytes each, then the figures
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import msgspec

from gateway.core.request import Message
from gateway.journal.writer import JournalWriter
from tests.journal.records import make_record


def make_writer(folder: Path) -> JournalWriter:
    loop = asyncio.get_running_loop()
    return JournalWriter(folder, 0, loop=loop, segment_bytes=1 << 30, segment_age_s=3600.0, memory_bytes=1 << 20)


async def endless(folder: Path) -> None:
    """What was said is in the page cache: a kill can't take it back."""
    writer = make_writer(folder)
    number = said = 0
    while True:
        writer.append(make_record(number))
        number += 1
        await asyncio.sleep(0.0002)
        written = writer.stats.written
        for flushed in range(said, written):
            print(flushed)
        if written > said:
            sys.stdout.flush()
        said = written


async def count(folder: Path, records: int, size: int) -> None:
    writer = make_writer(folder)
    for number in range(records):
        writer.append(make_record(number, messages=(Message("user", "x" * size),)))
        while writer.stats.pending_bytes and not writer.stats.error:
            await asyncio.sleep(0.001)
    writer.close()
    print(json.dumps(msgspec.to_builtins(writer.stats)))


if __name__ == "__main__":
    where, how, *numbers = sys.argv[1:]
    asyncio.run(endless(Path(where)) if how == "endless" else count(Path(where), *map(int, numbers)))
