"""Names of things: one table per kind of thing, no name twice, unknown names get a suggestion."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

__all__ = ["Registry", "did_you_mean"]

T = TypeVar("T")
V = TypeVar("V")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: near matches, then all that is known."""
    known = sorted(known)
    same = [other for other in known if other.lower() == name.lower()]
    near = same or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"{guess}known: {', '.join(known) or 'none'}"


class Registry(Mapping[str, T]):
    """A read-only mapping from name to thing, filled by the decorator `register`.

    >>> PRODUCTS = Registry("product")
    >>> @PRODUCTS.register("cg")
    ... def cg(x, y): ...
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[V], V]:
        """A decorator that enters its argument under `name` and returns it unchanged.

        Raises:
            ValueError: the name is taken.
        """

        def enter(thing: V) -> V:
            if name in self._things:
                raise ValueError(
                    f"a {self.kind} is registered once; {name!r} is {self._things[name]!r} "
                    f"already and {thing!r} came second; choose another name"
                )
            self._things[name] = thing  # pyright: ignore[reportArgumentType]
            return thing

        return enter

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            raise KeyError(f"there is no {self.kind} {name!r}; {did_you_mean(name, self)}")
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._things))

    def __len__(self) -> int:
        return len(self._things)
