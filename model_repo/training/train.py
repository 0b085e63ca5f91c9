"""Trains the assistant on a CPU: Muon for matrices, AdamW for the rest, warm-up, stable, decay.

A run is stable from its warm-up to its last ``--decay`` steps, in which the learning rate falls to
almost nothing. Because the stable part doesn't know its end, a shorter model can branch off any of its
checkpoints (``--start``): version 1 is such a branch, version 2 the whole run. A stopped run resumes
from its last checkpoint when the same command is given again.

Every sample is fresh, so the exact-match rates in the log are held-out by content (not by wording):
under teacher forcing a row is exact if and only if greedy decoding would write it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import circuits
import torch
import torch.nn.functional as F
from batches import Batch, Encoder, batches
from corpus import mix
from model import Llama, ModelShape
from muon import Muon
from peers import Peers, run_together
from torch import Tensor

WARM_UP = 40
FLOOR = 0.02


def learning_rate_factor(step: int, total: int, decay: int) -> float:
    """Warm-up, stable, linear decay."""
    left = (total - step) / max(decay, 1)
    return min(1.0, (step + 1) / WARM_UP) * max(FLOOR, min(1.0, left))


@dataclass(slots=True)
class Progress:
    """What a checkpoint counts."""

    step: int = 0
    tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Window:
    """Statistics since the last line of the log."""

    losses: list[float] = field(default_factory=list)
    exact: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def summary(self) -> dict[str, Any]:
        rates = {task: round(sum(hits) / len(hits), 2) for task, hits in sorted(self.exact.items())}
        return {"loss": round(sum(self.losses) / len(self.losses), 4), "exact": rates}


class Trainer:
    def __init__(self, peers: Peers, muon_lr: float, adam_lr: float) -> None:
        self.peers = peers
        self.model = Llama(ModelShape())
        named = list(self.model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in named if p.ndim == 1 or "embed" in name]
        self.adam_lr = adam_lr
        self.muon = Muon(matrices, peers, muon_lr)
        self.adam = torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.progress = Progress()

    def step(self, batch: Batch, factor: float, window: Window) -> None:
        """One optimiser step over the batches of all processes, normalised by their common weight."""
        self._loss(batch, window).backward()  # type: ignore[no-untyped-call]
        counts = torch.tensor([batch.weights[:, 1:].sum(), (batch.ids != 0).sum(), (batch.weights == 1).sum()])
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([counts, *(g.flatten() for g in gradients)])
        self.peers.add_up(flat)
        weight, tokens, answer_tokens = flat[:3].tolist()
        spots = torch.split_with_sizes(flat[3:].div_(weight), [g.numel() for g in gradients])
        for gradient, spot in zip(gradients, spots, strict=True):
            gradient.copy_(spot.view_as(gradient))
        circuits.keep_constant(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * factor
        self.muon.step(factor)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.progress.step += 1
        self.progress.tokens += int(tokens)
        self.progress.answer_tokens += int(answer_tokens)

    def _loss(self, batch: Batch, window: Window) -> Tensor:
        """The weighted sum of the losses of the positions that count; logits are made for those only."""
        weights = batch.weights[:, 1:]
        counted = weights > 0
        hidden = self.model(batch.ids, F.pad(counted, (0, 1)))
        targets, picked = batch.ids[:, 1:][counted], weights[counted]
        logits = self.model.logits(hidden)
        losses = F.cross_entropy(logits, targets, reduction="none")
        with torch.no_grad():
            answered = picked == 1
            window.losses.append(float(losses[answered].mean()))
            rows = torch.nonzero(counted)[:, 0]
            wrong = rows[answered & (logits.argmax(-1) != targets)]
            exact = torch.ones(len(batch.tasks)).index_fill_(0, wrong, 0.0)
            for task, hit in zip(batch.tasks, exact.tolist(), strict=True):
                window.exact[task].append(hit)
        return (losses * picked).sum()

    def save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "progress": {name: getattr(self.progress, name) for name in Progress.__slots__},
            "config": self.model.shape.as_config(),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.progress = Progress(**state["progress"])


def write_log(log: TextIO, trainer: Trainer, window: Window, rate: float) -> None:
    done = trainer.progress
    line = {"step": done.step, "tokens": done.tokens, "seconds": round(done.seconds), "tok_s": round(rate)}
    log.write(json.dumps(line | window.summary()) + "\n")
    log.flush()


def train(trainer: Trainer, options: argparse.Namespace) -> None:
    """Runs to ``options.steps``; the first process logs and saves on the way."""
    run: Path = options.run
    leads = trainer.peers.rank == 0
    weights = mix.WEIGHTS | dict(options.mix)
    seed = f"{options.seed}/{trainer.progress.step}/{trainer.peers.rank}"
    feed = batches(Encoder(options.tokenizer), seed, options.budget, weights)
    window, tokens = Window(), trainer.progress.tokens
    saved = logged = time.monotonic()
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        if leads:
            log.write(json.dumps({"resumed_at": trainer.progress.step, "mix": weights}) + "\n")
        while trainer.progress.step < options.steps:
            began = time.monotonic()
            factor = learning_rate_factor(trainer.progress.step, options.steps, options.decay)
            trainer.step(next(feed), factor, window)
            now = time.monotonic()
            trainer.progress.seconds += now - began
            if leads and trainer.progress.step % options.log_every == 0:
                write_log(log, trainer, window, (trainer.progress.tokens - tokens) / (now - logged))
                window, logged, tokens = Window(), now, trainer.progress.tokens
            if leads and now - saved > options.save_every:
                trainer.save(run / f"step-{trainer.progress.step:06d}.pt")
                saved = now
    if leads:
        trainer.save(run / f"step-{trainer.progress.step:06d}.pt")


def work(peers: Peers, options: argparse.Namespace) -> None:
    """What each process does: the same weights, its own batches."""
    torch.manual_seed(options.seed)
    trainer = Trainer(peers, options.muon_lr, options.adam_lr)
    circuits.install(trainer.model)
    if options.origin:
        trainer.load(options.origin)
    train(trainer, options)


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    if name not in mix.MAKERS:
        raise argparse.ArgumentTypeError(f"no task {name!r}; there are {', '.join(mix.MAKERS)}")
    return name, float(number)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python model_repo/training/train.py --run runs/v2 "
        "--tokenizer runs/tokenizer/tokenizer.json --steps 2000 --decay 400",
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    parser.add_argument("--steps", type=int, required=True, help="steps in all, those of --start included")
    parser.add_argument("--decay", type=int, default=0, help="how many of the last steps decay")
    parser.add_argument("--start", type=Path, help="checkpoint to branch from when the run is new")
    parser.add_argument("--mix", type=_weight, action="append", default=[], metavar="TASK=WEIGHT")
    parser.add_argument("--budget", type=int, default=1536, help="padded tokens per batch and process")
    parser.add_argument("--processes", type=int, default=2, help="one per core")
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--adam-lr", type=float, default=0.002)
    parser.add_argument("--log-every", type=int, default=20, help="steps")
    parser.add_argument("--save-every", type=float, default=120, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    options = parse()
    options.run.mkdir(parents=True, exist_ok=True)
    checkpoints = sorted(options.run.glob("step-*.pt"))
    options.origin = checkpoints[-1] if checkpoints else options.start
    run_together(partial(work, options=options), options.processes)


if __name__ == "__main__":
    main()
