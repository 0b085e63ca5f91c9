"""Moves a checkpoint to another tokenizer: each new embedding is made of the old ones of its text.

A word that the old tokenizer knew with its space takes that embedding, since it is the better trained.
The optimisers' moments of the embedding start anew; all else is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer


@torch.no_grad()
def transplant(checkpoint: Path, old: Tokenizer, new: Tokenizer, out: Path) -> int:
    """Writes the checkpoint for ``new``; returns how many tokens had an old counterpart."""
    state = torch.load(checkpoint, weights_only=True)
    weight = state["model"]["embed_tokens.weight"]
    known, fresh, found = old.get_vocab(), weight.clone(), 0
    for token, index in new.get_vocab().items():
        same = [known[name] for name in (f"Ġ{token}", token) if name in known][:1]
        found += bool(same)
        text = new.decode([index], skip_special_tokens=False)
        sources = same or old.encode(text, add_special_tokens=False).ids
        fresh[index] = weight[sources].mean(0)
    state["model"]["embed_tokens.weight"] = fresh
    for moments in state["adam"]["state"].values():
        if moments["exp_avg"].shape == weight.shape:
            moments["exp_avg"].zero_()
            moments["exp_avg_sq"].copy_(moments["exp_avg_sq"].mean().expand_as(weight))
    torch.save(state, out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  python model_repo/training/transplant.py --checkpoint runs/a/step-000600.pt "
        "--old runs/a/tokenizer.json --new runs/b/tokenizer.json --out runs/b/start.pt",
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--old", type=Path, required=True, help="tokenizer.json of the checkpoint")
    parser.add_argument("--new", type=Path, required=True, help="tokenizer.json to move to")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    old, new = (Tokenizer.from_file(str(path)) for path in (options.old, options.new))
    found = transplant(options.checkpoint, old, new, options.out)
    print(f"{found} of {new.get_vocab_size()} tokens had a counterpart")


if __name__ == "__main__":
    main()
