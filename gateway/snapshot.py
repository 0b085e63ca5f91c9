"""The live state that requests are served by: one frozen value, swapped whole."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gateway.prompt import PromptTemplate
from gateway.routing.version import Endpoint


class Prepared(Struct, frozen=True):
    """What is made once per version and not once per request. `template` is None for prompts only."""

    template: PromptTemplate | None
    fingerprint: str


class Snapshot(Struct, frozen=True):
    """`prepared` is by version label."""

    endpoints: Mapping[str, Endpoint]
    prepared: Mapping[str, Prepared]


def take_snapshot(endpoints: Mapping[str, Endpoint]) -> Snapshot:
    """The snapshot of a set of endpoints. Errors: `jinja2.TemplateSyntaxError` for a template that does not compile."""
    prepared = {}
    for endpoint in endpoints.values():
        for version in endpoint.versions.values():
            source = version.chat_template
            template = PromptTemplate(source, dict(version.template_vars)) if source else None
            prepared[version.label] = Prepared(template, version.fingerprint)
    return Snapshot(endpoints, prepared)
