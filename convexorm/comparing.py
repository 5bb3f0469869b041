"""`compare`: what differs between models and the schema that is deployed."""

from __future__ import annotations

from collections.abc import Iterable

from convexorm.deployments.base import Deployment
from convexorm.errors import InvalidRequestError
from convexorm.exports import Difference, Export, differences
from convexorm.given import several
from convexorm.mapping.mapper import mapper_of
from convexorm.mapping.model import Model

__all__ = ["compare"]


def compare(models: Iterable[type[Model]], deployed: Export | Deployment) -> list[Difference]:
    """What differs between models and a deployed schema; nothing where it serves them.

    `deployed` is a deployment, which is asked, or what its `describe()` has answered. Other tables, other indexes, and
    fields that may be missing are no differences: models may know a part. Raises InvalidRequestError for what is no model,
    and what asking a deployment raises.
    """
    tables = {mapper.name: mapper.table for mapper in map(mapper_of, several(models, "models"))}
    if isinstance(deployed, Deployment):
        deployed = deployed.describe()
    if not isinstance(deployed, Export):
        problem = f"a deployment is needed, or what its describe() has answered, got {type(deployed).__name__}"
        raise InvalidRequestError(problem)
    return [one for table in tables.values() for one in differences(table, deployed)]
