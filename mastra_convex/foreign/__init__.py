"""Deployments that run only the npm package's own storage handler: the same requests, answered through that handler.

`adapted` gives a deployment that begins with this library's functions and goes over to the handler where these are missing.
Services see a deployment like any other. What the handler cannot do atomically or cheaply is in `docs/contract.md`.
"""

from mastra_convex.foreign.deployment import DEFAULT_STORAGE_FUNCTION, AdaptedDeployment, adapted

__all__ = ["DEFAULT_STORAGE_FUNCTION", "AdaptedDeployment", "adapted"]
