"""Triton's entry point for this version; the engine is shared by all: see ../penstock_engine."""

from penstock_engine.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
