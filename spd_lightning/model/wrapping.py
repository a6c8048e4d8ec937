"""The one place that runs a target, with some of its modules' forwards replaced for the length of a call."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn

from spd_lightning.errors import UsageError
from spd_lightning.model.call import Arguments, TargetCall
from spd_lightning.model.factored import Factored
from spd_lightning.model.sites import Site

Result = TypeVar("Result")
Original = Callable[[Any], Any]
Handler = Callable[[str, int, Any, Original], Any]
"""Stands in for a module: is given its path, the number of this call of it, its input, and its own forward."""
CALL_MARK = "@"
MOST_TRIES = 3


def call_name(site: str, index: int, calls: int) -> str:
    """The name of one use of a site: the site's own where it is called once, ``site@index`` otherwise."""
    return site if calls == 1 else f"{site}{CALL_MARK}{index}"


def site_of(call: str) -> str:
    """The site that a call is of."""
    return call.rpartition(CALL_MARK)[0] if CALL_MARK in call else call


def place_name(path: str, index: int, side: str) -> str:
    """The name of what goes into a call of a module or comes out of it."""
    return f"{path}{CALL_MARK}{index} {side}"


class Returned(NamedTuple):
    """What one run of the target gave.

    Attributes:
        output: ``[..., d]``.
        kept: what the named modules put out, by name; of several calls the later ones as ``name@index``.
    """

    output: Tensor
    kept: dict[str, Tensor]


class Overwritten(Exception):  # noqa: N818 (no error: the run is taken again)
    """The network wrote in place into tensors that were to be kept."""

    def __init__(self, places: Iterable[str]) -> None:
        super().__init__()
        self.places = frozenset(places)


class Keeper:
    """Keeps tensors of a run by name, and knows if the network writes into one of them afterwards.

    Args:
        copied: names whose tensors are copied at once, since the network is known to overwrite them.
    """

    def __init__(self, copied: frozenset[str] | set[str]) -> None:
        self._copied = copied
        self._kept: dict[str, tuple[Tensor, int]] = {}

    def keep(self, name: str, tensor: Tensor) -> Tensor:
        """Keep a tensor as it is now; what is returned may be a copy, which the network does not see."""
        if name in self._copied or tensor.is_inference():  # the latter count no changes
            return tensor.clone()
        self._kept[name] = tensor, tensor._version
        return tensor

    def check(self) -> None:
        """Raise :class:`Overwritten` if a kept tensor has changed since."""
        changed = [name for name, (tensor, version) in self._kept.items() if version != tensor._version]
        if changed:
            raise Overwritten(changed)


class Wrapping:
    """A target, how it is called, and its sites.

    Args:
        target: the network, frozen and in eval mode.
        call: how a batch becomes its arguments.
        sites: what is decomposed, by name.

    Attributes:
        modules: the sites of each module, by the module's path.
        copied: names of kept tensors that the network has been seen to write into; they are copied from then on.
    """

    def __init__(self, target: nn.Module, call: TargetCall, sites: Mapping[str, Site]) -> None:
        self.target, self.call, self.sites = target, call, dict(sites)
        call.bind(target)
        self.modules: dict[str, dict[str, Site]] = {}
        for name, site in self.sites.items():
            self.modules.setdefault(name.partition("[")[0], {})[name] = site
        self.copied: set[str] = set()

    def run(
        self,
        batch: Any,
        handler: Handler,
        keep: Sequence[str] = (),
        modules: Iterable[str] | None = None,
        enter: Callable[[Arguments], Any] | None = None,
    ) -> Returned:
        """Run the target on a batch.

        Args:
            batch: as :class:`TargetCall` takes it.
            handler: stands in for the modules of sites.
            keep: paths of modules whose outputs are wanted.
            modules: paths of the modules that the handler stands in for; ``None`` for all that have sites.
            enter: runs the target in another way than by calling it.

        Returns:
            The output and what was kept.

        Raises:
            UsageError: if the output is no tensor, or a module is called in a way that is not supported for sites.
        """
        arguments = self.call.arguments(batch)
        with self.patched(handler, modules), self.keeping(keep) as seen:
            returned = self.target(*arguments.args, **arguments.kwargs) if enter is None else enter(arguments)
        kept = {
            call_name(name, index, len(outputs)): output
            for name, outputs in seen.items()
            for index, output in enumerate(outputs)
        }
        return Returned(self.call.chosen(returned), kept)

    def until_kept(self, run: Callable[[Keeper], Result]) -> Result:
        """Take a run again, copying more, until the network overwrites nothing that is kept.

        Args:
            run: given a keeper, makes the run and returns what is wanted.

        Returns:
            What it returned.
        """
        for _ in range(MOST_TRIES):
            keeper = Keeper(self.copied)
            result = run(keeper)
            try:
                keeper.check()
            except Overwritten as overwritten:
                self.copied |= overwritten.places
                continue
            return result
        raise UsageError("target: it overwrites other tensors at every call; let it write to copies")

    @contextmanager
    def patched(self, handler: Handler, modules: Iterable[str] | None = None) -> Iterator[None]:
        """Let a handler stand in for modules for the length of a ``with`` block."""
        # written into the instances themselves: Module.__setattr__ looks for parameters first, at every step
        own = {path: vars(self.module(path)) for path in (self.modules if modules is None else modules)}
        before = {path: attributes.get("forward") for path, attributes in own.items()}
        try:
            for path, attributes in own.items():
                attributes["forward"] = _stand_in(handler, path, self.module(path).forward)
            yield
        finally:
            for path, attributes in own.items():
                attributes.pop("forward", None)
                if before[path] is not None:
                    attributes["forward"] = before[path]

    @contextmanager
    def keeping(self, names: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
        """Collect what modules put out, call by call, while a ``with`` block runs the target."""
        seen: dict[str, list[Tensor]] = {name: [] for name in names}
        hooks = [self._named_module(name).register_forward_hook(_collector(seen[name], name)) for name in names]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()

    def module(self, path: str) -> nn.Module:
        """The module of a site or of several, by its path."""
        return next(iter(self.modules[path].values())).module

    def _named_module(self, name: str) -> nn.Module:
        try:
            return self.target.get_submodule(name)
        except AttributeError:
            raise UsageError(f"keep: the target has no module {name!r}") from None


def _stand_in(handler: Handler, path: str, original: Original) -> Callable[..., Any]:
    count = 0

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        inputs = (*args, *kwargs.values())
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor | Factored):
            raise UsageError(
                f"sites: the target calls {path!r} with {len(inputs)} arguments, not one tensor; leave it out"
            )
        count += 1
        return handler(path, count - 1, inputs[0], original)

    return forward


def _collector(seen: list[Tensor], name: str) -> Callable[..., None]:
    def collect(module: nn.Module, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, list | tuple) else output
        first = first.dense() if isinstance(first, Factored) else first
        if not isinstance(first, Tensor):
            raise UsageError(f"keep: module {name!r} puts out a {type(first).__name__}, not a tensor")
        seen.append(first.clone())  # the network may write into it

    return collect


def calls_in_order(inputs: Mapping[tuple[str, int], Any], sites: Iterable[str]) -> dict[tuple[str, int], str]:
    """Names of site calls, ``(site, index)`` by ``(site, index)``, in the order of the sites and then of the calls."""
    order = {site: number for number, site in enumerate(sites)}
    counts: dict[str, int] = {}
    for site, _ in inputs:
        counts[site] = counts.get(site, 0) + 1
    keys = sorted(inputs, key=lambda key: (order[key[0]], key[1]))
    return {key: call_name(*key, counts[key[0]]) for key in keys}
