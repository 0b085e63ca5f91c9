"""The contracts, most specific first: the first that matches a model's interface binds it."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.engines.contracts.binding import BindError, Binding, Contract
from gateway.engines.contracts.penstock import Penstock
from gateway.engines.contracts.trtllm_ensemble import TrtllmEnsemble
from gateway.engines.contracts.trtllm_llmapi import TrtllmLlmapi
from gateway.engines.triton_interface import ModelInterface
from gateway.routing.version import Version

CONTRACTS: tuple[Contract, ...] = (
    Penstock(),
    TrtllmEnsemble(),
    TrtllmLlmapi(),
)


def find_contract(interface: ModelInterface) -> Contract:
    """The contract of a model. Errors: BindError where there is none."""
    for contract in CONTRACTS:
        if contract.matches(interface):
            return contract
    inputs = ", ".join(sorted(interface.inputs)) or "none"
    outputs = ", ".join(sorted(interface.outputs)) or "none"
    names = ", ".join(contract.name for contract in CONTRACTS)
    raise BindError(
        f"model '{interface.name}' speaks no contract of ours ({names}): "
        f"its inputs are {inputs}; its outputs are {outputs}"
    )


def bind(interface: ModelInterface, version: Version, companions: Mapping[str, ModelInterface]) -> Binding:
    """The version on its model. Errors: BindError where the model cannot serve it."""
    binding = find_contract(interface).bind(interface, version, companions)
    if version.determinism == "seeded" and "seed" not in binding.features:
        raise BindError(
            f"{version.label} is 'seeded', but its model '{interface.name}' ({binding.contract}) has no seed input"
        )
    return binding
