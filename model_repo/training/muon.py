"""Muon for the matrices of the layers: momentum whose direction is made orthogonal.

Written after Keller Jordan's description (https://kellerjordan.github.io/posts/muon/). Matrices of
one shape are stepped together, and their orthogonalisation is shared out among the processes.
"""

from __future__ import annotations

from typing import Any

import torch
from peers import Peers
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(gradient: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration: (n, rows, columns) → the nearest semi-orthogonal matrices, roughly."""
    a, b, c = _QUINTIC
    tall = gradient.shape[-2] > gradient.shape[-1]
    x: Tensor = gradient.mT if tall else gradient
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    out: Tensor = x.mT if tall else x
    return out


class Muon:
    """Nesterov momentum, orthogonalised, with a little decoupled weight decay."""

    def __init__(
        self, parameters: list[nn.Parameter], peers: Peers, lr: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        self.lr, self.momentum, self.decay = lr, momentum, decay
        self._peers = peers
        self._groups: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for parameter in parameters:
            self._groups.setdefault(tuple(parameter.shape), []).append(parameter)
        self._buffers = {shape: torch.zeros(len(group), *shape) for shape, group in self._groups.items()}

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """Takes one step at ``lr * factor`` and drops the gradients."""
        for shape, group in self._groups.items():
            gradient = torch.stack([p.grad for p in group if p.grad is not None])
            buffer = self._buffers[shape].mul_(self.momentum).add_(gradient, alpha=1 - self.momentum)
            look_ahead = gradient.mul_(1 - self.momentum).add_(buffer, alpha=self.momentum)
            update = torch.zeros_like(look_ahead)
            mine = slice(self._peers.rank, None, self._peers.count)
            update[mine] = orthogonalise(look_ahead[mine])
            self._peers.add_up(update)
            rate = self.lr * factor
            scale = rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for parameter, direction in zip(group, update, strict=True):
                parameter.mul_(1 - rate * self.decay).add_(direction, alpha=-scale)
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"buffers": self._buffers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._buffers = state["buffers"]
