"""An imitation of a stock model: see tests/imitations."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from imitations.bls import TritonPythonModel

__all__ = ["TritonPythonModel"]
