"""Live queries: what is asked stays answered.

`watch` is what users hold: a `Watch`, entered as `Live` or as `AsyncLive`. A deployment feeds its `mailboxes` with answers
to requests; `states` makes of each answer what changed, of instances that are kept as long as their documents are the
same; `bells` are how one waits for the next. Deployments do the input and output, and know only mailboxes and `keeping`.
"""

from convexorm.live.changes import Change
from convexorm.live.watch import AsyncLive, Live, Watch

__all__ = ["AsyncLive", "Change", "Live", "Watch"]
