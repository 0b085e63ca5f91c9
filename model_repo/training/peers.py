"""Data-parallel training on one machine: a process per core.

Two processes of one thread each train half again as fast as one process of two threads: small matrices
share badly among threads, and a thread that is preempted stalls its team at every operation instead of
once a step.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Peers:
    """The processes of a training, and which of them this one is."""

    rank: int = 0
    count: int = 1

    def add_up(self, tensor: Tensor) -> None:
        """Replaces the tensor, in place, by its sum over all processes."""
        if self.count > 1:
            dist.all_reduce(tensor)


def _enter(rank: int, count: int, meeting: str, work: Callable[[Peers], None]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    work(Peers(rank, count))
    dist.destroy_process_group()


def run_together(work: Callable[[Peers], None], count: int) -> None:
    """Runs ``work`` in ``count`` processes that meet through a file."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with TemporaryDirectory() as folder:
        mp.spawn(_enter, (count, str(Path(folder) / "meeting"), work), nprocs=count)  # type: ignore[attr-defined, no-untyped-call]
