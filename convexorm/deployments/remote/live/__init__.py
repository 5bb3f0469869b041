"""Watches over Convex's sync protocol: a WebSocket on which the deployment keeps queries answered.

`messages` are the protocol's, `queries` what one connection has asked and was told, `watchings` what watches make of that,
`connection` the thread that speaks for all watches of one identity, over `websockets`.
"""

from __future__ import annotations

from convexorm.deployments.remote.live.connection import Identity, LiveConnection

__all__ = ["Identity", "LiveConnection"]
