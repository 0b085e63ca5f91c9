"""Penstock: an LLM inference gateway for NVIDIA Triton with TensorRT-LLM."""

__version__ = "0.1.0"
