"""`Loader`: what is loaded beside documents becomes what their instances are related to.

Related documents come with a read, along its edges, and become instances of the identity map like any others; so two
documents that lead to one share its instance, and what leads back is known without asking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from convexorm.deployments.reader import Reader
from convexorm.errors import ValidationError
from convexorm.mapping.model import Model, state_of
from convexorm.mapping.references import UNSET, Reference
from convexorm.mapping.relations import Many, Path, Relation, Through, ToMany, ToOne, check_paths
from convexorm.relatives import all_found, found, found_stored, join_row, listed, loaded_list, related, stay_in_step
from convexorm.requests import Document, Follow, Followed, Read, ReadResult
from convexorm.sessions.compiler import Compiler
from convexorm.sessions.identities import IdentityMap
from convexorm.values import MISSING, Value, hashable

__all__ = ["Loader"]

Parent: TypeAlias = tuple[Model, Document]
"""An instance, and the document that was followed from, which may be newer than the one it shows."""


class Loader:
    """Loads relations for one session."""

    def __init__(self, compiler: Compiler, reader: Reader, identities: IdentityMap) -> None:
        self._compiler = compiler
        self._reader = reader
        self._identities = identities

    async def instances(self, model: type[Any], paths: Sequence[Path], result: ReadResult) -> list[Any]:
        """The instances of an answer's documents, with what it has found along these paths."""
        instances = self._identities.load(model, result.docs)
        if paths:
            await self.attach(paths, list(zip(instances, result.docs, strict=True)), result.followed)
        return instances

    async def attach(self, paths: Sequence[Path], parents: Sequence[Parent], followed: Sequence[Followed]) -> None:
        """Show instances what edges from their documents have led to."""
        await self._again(self._attach(paths, parents, followed))

    async def _again(self, left: Sequence[tuple[Model, Path]]) -> None:
        """Load what showed that what was read is not what is asked for."""
        for path in {id(path): path for _, path in left}.values():
            await self.load([instance for instance, one in left if one is path], (path,))

    async def load(self, instances: Iterable[Model], paths: Sequence[Path]) -> None:
        """Load relations of instances that are there, in as few calls as it takes."""
        held: list[Model] = []
        for instance in instances:
            state_of(instance)
            held.append(instance)
            check_paths(paths, type(instance))
        if not held:
            check_paths(paths, None)
            return
        wanted: list[tuple[Path, Follow, dict[str | bytes, Any], list[Parent]]] = []
        reads: list[Read] = []
        for path in paths:
            (edge,) = self._compiler.follow((path,))
            parents = self._parents(path, edge, [one for one in held if isinstance(one, path.model)])
            keys = {hashable(doc[edge.field]): doc[edge.field] for _, doc in parents if doc.get(edge.field) is not None}
            wanted.append((path, edge, keys, parents))
            reads += [edge.read(key) for key in keys.values()]
        results = iter(await self._reader.run(reads))
        left: list[tuple[Model, Path]] = []
        for path, _, keys, parents in wanted:
            followed = Followed()
            for key in keys.values():
                result = next(results)
                followed.add(key, result.docs)
                followed.merge(result.followed)
            left += self._attach((path,), parents, (followed,))
        await self._again(left)

    def _parents(self, path: Path, edge: Follow, instances: Sequence[Model]) -> list[Parent]:
        """The instances with what they hold now of the field that is followed. A new one's list is as it is."""
        parents: list[Parent] = []
        for instance in instances:
            relation = path.relation
            if relation.many and instance._state.held is None:
                loaded_list(instance, relation)
                continue
            value = self._value(instance, relation)
            if value is UNSET:
                related(instance, relation)  # raises, unless it leads to a new instance
                continue
            parents.append((instance, {} if value is None or value is MISSING else {edge.field: value}))
        return parents

    def _value(self, instance: Model, relation: Relation) -> Any:
        if isinstance(relation, ToOne):
            value = getattr(instance, relation.reference.attribute)
            return value if value is UNSET else relation.reference.dump(value)
        document = instance._state.document
        assert document is not None
        assert isinstance(relation, ToMany | Through)
        reference = relation.reference if isinstance(relation, ToMany) else relation.near
        return document.get(reference.key_field)

    # -- from documents to instances -------------------------------------------------------------------------------

    def _attach(
        self, paths: Sequence[Path], parents: Sequence[Parent], followed: Sequence[Followed]
    ) -> list[tuple[Model, Path]]:
        """Show instances what was found. Answers those of which other documents are to be read: because they show an older
        one, which leads elsewhere, or because rows that lead to nothing, or to the same, have left a list too short.
        """
        older: list[tuple[Model, Path]] = []
        for path, edge in zip(paths, followed, strict=True):
            relation = path.relation
            of_model = [parent for parent in parents if isinstance(parent[0], relation.model)]
            if isinstance(relation, ToOne):
                older += [(instance, path) for instance in self._ones(relation, of_model, edge)]
                further, behind = edge, relation.target
            elif isinstance(relation, Through):
                assert isinstance(path, Many)
                short = self._through(relation, path, of_model, edge)
                older += [(instance, wide) for wide in (path.wide(),) for instance in short]
                further, behind = edge.followed[0] if edge.followed else Followed(), relation.target
            else:
                assert isinstance(relation, ToMany)
                self._lists(relation, of_model, edge, whole=not isinstance(path, Many) or path.whole)
                further, behind = edge, relation.target
            if path.loads and further.followed:
                documents = [document for group in further.groups.values() for document in group.docs]
                instances = self._identities.load(behind, documents)
                older += self._attach(path.loads, list(zip(instances, documents, strict=True)), further.followed)
        return older

    def _of_groups(self, model: type[Model], edge: Followed) -> dict[str | bytes, list[Any]]:
        """The instances of each group."""
        documents = [document for group in edge.groups.values() for document in group.docs]
        instances = iter(self._identities.load(model, documents))
        return {identity: [next(instances) for _ in group.docs] for identity, group in edge.groups.items()}

    def _ones(self, relation: ToOne, parents: Sequence[Parent], edge: Followed) -> list[Model]:
        groups = self._of_groups(relation.target, edge)
        reference = relation.reference
        older: list[Model] = []
        for instance, document in parents:
            stored = document.get(reference.field)
            value = None if stored is None else _value_of(reference, stored)
            if value is MISSING:
                continue
            items = () if stored is None else groups.get(hashable(stored), ())
            waiting = None if stored is None else self._identities.waiting(reference, value)
            found_stored(instance, reference, value, waiting or (items[0] if items else None))
            if instance._state.document is not document and getattr(instance, reference.attribute) != value:
                older.append(instance)
        return [one for one in older if getattr(one, reference.attribute) is not UNSET]

    def _lists(self, relation: ToMany, parents: Sequence[Parent], edge: Followed, *, whole: bool) -> None:
        groups = self._of_groups(relation.target, edge)
        reference, field = relation.reference, relation.reference.key_field
        for instance, document in parents:
            key = document.get(field)
            items = [] if key is None else groups.get(hashable(key), [])
            value = MISSING if key is None else _value_of(reference, key)
            if items and value is not MISSING:
                all_found(items, reference, value, instance)
            listed(instance, relation, items, (), whole=whole)
        self._stay_in_step(relation, [instance for instance, _ in parents])

    def _through(self, relation: Through, path: Many[Any], parents: Sequence[Parent], edge: Followed) -> list[Model]:
        rows = self._of_groups(relation.between, edge)
        items_edge = edge.followed[0] if edge.followed else Followed()
        items = self._of_groups(relation.target, items_edge)
        field, far = relation.near.key_field, relation.far
        short: list[Model] = []
        waiting: list[Model] = []
        for instance, document in parents:
            key = document.get(field)
            group = None if key is None else edge.groups.get(hashable(key))
            pairs: list[tuple[Model, Model]] = []
            if group is not None and key is not None:
                for row, row_document in zip(rows[hashable(key)], group.docs, strict=True):
                    target = row_document.get(far.field)
                    leads = () if target is None else items.get(hashable(target), ())
                    if leads:
                        pairs.append((row, leads[0]))
                    self._row(relation.near, row, row_document, instance)
                    self._row(relation.far, row, row_document, leads[0] if leads else None)
                    if not leads and self._waits(relation.far, row, row_document):
                        waiting.append(row)
            if path.most is not None:
                first = set(list(dict.fromkeys(id(item) for _, item in pairs))[: path.most])
                pairs = [(row, item) for row, item in pairs if id(item) in first]
                if group is not None and not path.is_wide and len(first) < path.most == len(group.docs):
                    short.append(instance)
            listed(instance, relation, [item for _, item in pairs], [row for row, _ in pairs], whole=path.whole)
        self._stay_in_step(relation, [instance for instance, _ in parents])
        for row in waiting:
            join_row(row)
        return short

    def _stay_in_step(self, relation: ToMany | Through, owners: Sequence[Model]) -> None:
        """Let lists that were loaded just now say what is pending."""
        stay_in_step(relation, owners, self._identities.moves)
        self._identities.make_way(relation, owners)

    def _waits(self, reference: Reference, row: Model, document: Document) -> bool:
        """Whether a row leads to what is to be stored by the next commit."""
        stored = document.get(reference.field)
        value = MISSING if stored is None else _value_of(reference, stored)
        one = None if value is MISSING else self._identities.waiting(reference, value)
        self._row(reference, row, document, one)
        return one is not None

    def _row(self, reference: Reference, row: Model, document: Document, leads: Model | None) -> None:
        stored = document.get(reference.field)
        value = MISSING if stored is None else _value_of(reference, stored)
        if leads is not None and value is not MISSING:
            found(row, reference, value, leads)


def _value_of(reference: Reference, stored: Value) -> Any:
    """What a document refers to; MISSING where it does not fit the model, which raises when somebody looks."""
    try:
        return reference.load(stored)
    except ValidationError:
        return MISSING
