"""Sessions: what is read becomes instances, what is done to them becomes commits.

`AsyncSession` and `Session`, its blocking face, are all that users see. A session holds a `Reader`, an `IdentityMap`, what
is `Pending`, and the `UnitOfWork` that writes it; a `Compiler` turns models, keys and queries into what requests say.
"""

from __future__ import annotations

from convexorm.sessions.blocking import Session
from convexorm.sessions.results import Fitting, Hit, Invalid, Page, Progress
from convexorm.sessions.scheduling import Scheduled
from convexorm.sessions.session import AsyncSession

__all__ = ["AsyncSession", "Fitting", "Hit", "Invalid", "Page", "Progress", "Scheduled", "Session"]
