"""A frozen target whose chosen weight matrices are sums of rank-one components, and what predicts their importance."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_choice, check_flag, check_whole
from spd_lightning.functional.precision import full_precision
from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.functional.sigmoids import Leak, lower_leaky, upper_leaky
from spd_lightning.functional.variety import shows_features
from spd_lightning.model.call import TargetCall
from spd_lightning.model.component_model import ComponentModel
from spd_lightning.model.components import Components, Init
from spd_lightning.model.importance import Features, ImportanceFunction, InnerActivations, PerSite, SiteShape
from spd_lightning.model.passes import CausalImportance, CleanPass
from spd_lightning.model.sites import Site, find_sites
from spd_lightning.model.ties import TiedComponents, TwinComponents, tied_components
from spd_lightning.model.wrapping import site_of

ImportanceFactory = Callable[[Mapping[str, SiteShape]], ImportanceFunction]
"""Builds the importance function from the sites' shapes."""
TiedUpdates = Literal["once", "twice"]


class DecomposedModel(ComponentModel):
    """A frozen target that can run on rank-one components, each with a causal importance that is predicted.

    Masks and routing travel as arguments; nothing is left behind in the target between calls.

    Args:
        target: the trained network. It is frozen and put into eval mode.
        sites: ``fnmatch`` patterns of module paths to the number of components ``C`` of each match. A part of a fused
            matrix is named in brackets, ``"*.c_attn[q]"`` or ``"*.in_proj[0:64]"``.
        call: how a batch becomes the target's arguments; ``None`` for :class:`AutomaticCall`.
        importance: builds the importance function from the sites' shapes, for example ``PerSite`` or
            ``functools.partial(PerSite, function=SharedMLP)``.
        leak: version of the lower-leaky sigmoid: ``"one_sided"`` (later SPD library) or ``"linear"`` (paper).
        use_delta: whether ``W - (V U)ᵀ`` takes part in stochastic and adversarial masking as an extra component
            of causal importance 0 (later SPD library; the paper has none).
        init: how components start: ``"random"`` (later SPD library), ``"overlap"`` (paper), ``"examples"`` (ours):
            at random until :meth:`start_from_examples` sees some, or ``"adaptive"`` (ours): from examples where these
            are features that come one at a time, at random elsewhere. Or as a basis that needs no learning, to hold
            learned components against: ``"neurons"``, ``"singular"`` vectors or random ``"directions"``.
        ties: sites whose weight is another site's, as it is or transposed, e.g. ``{"linear2": "linear1"}``: they
            share the other's components and have importances of their own. Sites that are one parameter of the
            target, such as tied embeddings, are tied without being named.
        tied_updates: ``"once"``, the shared numbers get the summed gradient and one update a step (ours), or
            ``"twice"``, each site keeps optimiser moments of its own and updates them in turn (paper's code).
        kinds: kinds of sites that are tried before the package's own.
        seed: seeds the start of components and importance function.

    Raises:
        UsageError: for patterns, modules, ties or choices that cannot be used.
    """

    reader: ClassVar[Callable[..., "DecomposedModel"]]
    """Reads the artefact; set by the room that knows its format, which builds on this class."""

    sites: dict[str, int]
    """``C`` of every site, by its name."""
    scores: Mapping[str, float] = MappingProxyType({})
    """What a test that followed training found, by name; empty before one."""
    figures: Mapping[str, Any] = MappingProxyType({})
    """Pictures of that test, as matplotlib figures, where they were written nowhere."""
    importance_function: ImportanceFunction

    def __init__(
        self,
        target: nn.Module,
        sites: dict[str, int],
        call: TargetCall | None = None,
        importance: ImportanceFactory = PerSite,
        leak: Leak = "one_sided",
        use_delta: bool = True,
        init: Init = "random",
        ties: dict[str, str] | None = None,
        tied_updates: TiedUpdates = "once",
        kinds: Sequence[type[Site]] | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("leak", leak, get_args(Leak))
        check_choice("init", init, get_args(Init))
        check_choice("tied_updates", tied_updates, get_args(TiedUpdates))
        check_flag("use_delta", use_delta)
        check_whole("seed", seed, most=None)
        self_kinds = list(kinds or [])
        found = find_sites(target, sites, self_kinds)
        super().__init__(target, found, call)
        self.leak, self.use_delta, self.init, self.seed = leak, use_delta, init, seed
        self.ties, self.tied_updates, self.kinds = dict(ties or {}), tied_updates, self_kinds
        self.sites = {name: count for name, (_, count) in found.items()}
        tied = TiedComponents if tied_updates == "once" else TwinComponents
        self.components = tied_components(found, self.ties, Components, tied)
        self.importance_function = self._build_importance(importance, found)
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        run_dir: str | Path,
        target: nn.Module | None = None,
        importance: ImportanceFactory | None = None,
        call: TargetCall | None = None,
        import_classes: bool = False,
    ) -> "DecomposedModel":
        """Restore a decomposition from ``components.safetensors`` and ``config.json``.

        Args:
            run_dir: the folder that holds both files.
            target: needed when the decomposed network is a class of yours that is not imported; its weights are filled
                in from the file, or checked against it where the file leaves them out.
            importance: needed when the importance function is a class of yours that is not imported.
            call: the same for the way the target is called.
            import_classes: whether modules that ``config.json`` names are imported. Importing runs their code: only for
                files that you trust.

        Returns:
            The decomposition, with the same numbers that were saved.

        Raises:
            UsageError: if files are missing, damaged, or do not fit the target.
        """
        return cls.reader(run_dir, target, importance, call, import_classes)

    def reset(self) -> None:
        """Draw components and importance function anew from the seed, for the target's present weights."""
        for name in self.site_names:
            try:
                self.components[name].reset(self.init, keyed_generator(self.seed, "components", name))
            except ValueError as error:
                count = self.components[name].n_components
                raise UsageError(f"init: site {name!r}: {error}, got C = {count}") from None
        self.mirror_twins()
        self.importance_function.reset(partial(keyed_generator, self.seed, "ci_fn"))

    def start_from_examples(self, batch: Any) -> None:
        """Start the components anew from what reaches their sites; the importance function stays.

        With ``init="adaptive"`` those sites alone which :func:`features reach one at a time
        <spd_lightning.functional.variety.shows_features>`; the others keep their random start.

        Args:
            batch: as the call takes it.

        Raises:
            UsageError: if nothing but zeros reaches a site.
        """
        with full_precision(next(iter(self.components.values())).V):
            started = set()
            for call, site_input in self.clean(batch).site_inputs.items():
                name = site_of(call)
                if name in started:  # of several calls the first
                    continue
                started.add(name)
                self._start_site(name, site_input)
            self.mirror_twins()

    def _start_site(self, name: str, site_input: Tensor) -> None:
        components, generator = self.components[name], keyed_generator(self.seed, "examples", name)
        examples = components.site.examples(site_input).flatten(0, -2)
        if self.init == "adaptive" and not shows_features(examples, keyed_generator(self.seed, "adaptive", name)):
            return
        try:
            components.start_from(site_input, generator)
        except ValueError as error:
            raise UsageError(f"init: 'examples' cannot start {name!r}: {error}; use 'random'") from None

    def importance_of(self, batch: Any) -> dict[str, CausalImportance]:
        """Causal importances of every example, see :meth:`importance`."""
        return self.importance(self.clean(batch))

    def importance(self, clean: CleanPass) -> dict[str, CausalImportance]:
        """Predict how far each component may be ablated, in full precision under mixed precision too.

        Args:
            clean: a clean pass.

        Returns:
            Logits and both leaky sigmoids per site call.

        Raises:
            UsageError: if the importance function gives other logits than one per component and position.
        """
        inputs = clean.site_inputs
        some = next(iter(self.components.values())).V
        inner = InnerActivations({call: partial(self._inner, call, inputs) for call in inputs}, some)
        logits = self.logits(inner, self.features(clean))
        return {call: CausalImportance(z, lower_leaky(z, self.leak), upper_leaky(z)) for call, z in logits.items()}

    def _inner(self, call: str, site_inputs: Mapping[str, Tensor]) -> Tensor:
        return self.components[site_of(call)].inner(site_inputs[call])

    def features(self, clean: CleanPass) -> Features:
        """What the importance function may read of a clean pass beside inner activations."""
        make = {call: partial(self._features, call, clean.site_inputs) for call in clean.site_inputs}
        return Features(make, clean.weights.counted)

    def logits(self, inner: Mapping[str, Tensor], features: Features) -> dict[str, Tensor]:
        """The importance function's logits, checked."""
        with full_precision(next(iter(self.components.values())).V):
            logits = self.importance_function(inner, features)
        for call in inner:
            found, leading = logits.get(call), features.leading.get(call)
            leading = inner[call].shape[:-1] if leading is None else leading
            expected = [*leading, self.components[site_of(call)].n_components]
            if found is None or list(found.shape) != expected:
                shape = "none" if found is None else f"shape {list(found.shape)}"
                raise UsageError(
                    f"importance: {type(self.importance_function).__name__} must give logits of shape "
                    f"{expected} for {call!r}, got {shape}"
                )
        return {call: logits[call] for call in inner}

    def _features(self, call: str, site_inputs: Mapping[str, Tensor]) -> Tensor:
        parts = self.components[site_of(call)]
        return parts.site.gate_features(site_inputs[call]).to(parts.V.dtype)

    def _build_importance(
        self, importance: ImportanceFactory, found: Mapping[str, tuple[Site, int]]
    ) -> ImportanceFunction:
        shapes = {name: SiteShape(count, site.d_features) for name, (site, count) in found.items()}
        some = next(iter(self.components.values())).V
        return importance(shapes).to(some)  # the type and device of what it reads
