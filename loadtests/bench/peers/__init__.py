"""Who Penstock is measured beside, each in its cheapest honest form: one file a peer."""

from __future__ import annotations

from loadtests.bench.contender import Contender
from loadtests.bench.peers.litellm import LiteLLM
from loadtests.bench.peers.nginx import Nginx
from loadtests.bench.peers.portkey import Portkey
from loadtests.bench.peers.sglang_router import SglangRouter
from loadtests.bench.peers.tensorzero import TensorZero
from loadtests.bench.peers.vllm_router import VllmRouter

PEERS: tuple[Contender, ...] = (VllmRouter(), SglangRouter(), TensorZero(), Portkey(), LiteLLM(), Nginx())
"""All of them, in the order of the table."""
