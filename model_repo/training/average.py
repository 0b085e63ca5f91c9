"""Averages the weights of checkpoints of one run.

What a high learning rate still stirs lies around what a decay would settle on: the mean of a few checkpoints is
near it, at no further training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch


def average(paths: list[Path], out: Path) -> None:
    """Writes a checkpoint that ``export.py`` reads; all of it but the weights is the last one's."""
    state = torch.load(paths[-1], weights_only=True)
    models = [torch.load(path, weights_only=True)["model"] for path in paths]
    state["model"] = {name: sum(model[name] for model in models) / len(models) for name in models[-1]}
    torch.save(state, out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python model_repo/training/average.py --out runs/v1.pt runs/a/step-003557.pt "
        "runs/a/step-003715.pt",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    options = parser.parse_args()
    average(options.checkpoints, options.out)


if __name__ == "__main__":
    main()
