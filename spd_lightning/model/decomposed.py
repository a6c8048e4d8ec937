"""A frozen target whose chosen weight matrices are sums of rank-one components, and what predicts their importance."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from torch import Tensor, nn

from spd_lightning.describe import describe
from spd_lightning.errors import UsageError, check_choice, check_flag, check_whole
from spd_lightning.functional.precision import full_precision
from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.functional.sigmoids import Leak, lower_leaky, upper_leaky
from spd_lightning.model.ci_fns import CIFunction, GateMLP
from spd_lightning.model.component_model import CausalImportance, ComponentModel
from spd_lightning.model.components import Components, Init, StorageTiedComponents, TransposedComponents
from spd_lightning.model.site_dict import SiteDict
from spd_lightning.model.sites import find_sites

CIFactory = Callable[[int, int], CIFunction]
"""Builds the causal-importance function of a site from ``C`` and the width of its input."""


TiedUpdates = Literal["once", "twice"]


class DecomposedModel(ComponentModel[Components]):
    """A frozen target that can run on rank-one components, each with a causal importance that a gate predicts.

    Masks and routing travel as arguments; nothing is left behind in the target between calls. Inputs have any
    leading dimensions, ``[..., d]``.

    Args:
        target: the trained network. It is frozen and put into eval mode; its forward takes one input and
            returns one tensor.
        sites: ``fnmatch`` patterns of module paths to the number of components ``C`` of each match.
        ci_fn: builds a causal-importance function from ``(C, d_in)``, for example ``GateMLP`` or
            ``functools.partial(GateMLP, hidden=[8, 8])``.
        leak: version of the lower-leaky sigmoid: ``"one_sided"`` (later SPD library) or ``"linear"`` (paper).
        use_delta: whether ``W - (V U)ᵀ`` takes part in stochastic and adversarial masking as an extra component
            of causal importance 0 (later SPD library; the paper has none).
        init: how components start: ``"random"`` (later SPD library), ``"overlap"`` (paper) or ``"examples"`` (ours):
            at random until :meth:`start_from_examples` sees some.
        ties: sites whose weight is the transpose of another site's, e.g. ``{"linear2": "linear1"}``: they
            share the other's components, transposed, and keep a causal-importance function of their own.
        tied_updates: ``"once"``, the shared numbers get the summed gradient and one update a step (ours), or
            ``"twice"``, each site keeps optimiser moments of its own and updates them in turn (paper's code).
        seed: seeds the start of components and causal-importance functions.

    Raises:
        UsageError: for patterns, layers, ties or choices that cannot be used.
    """

    def __init__(
        self,
        target: nn.Module,
        sites: dict[str, int],
        ci_fn: CIFactory = GateMLP,
        leak: Leak = "one_sided",
        use_delta: bool = True,
        init: Init = "random",
        ties: dict[str, str] | None = None,
        tied_updates: TiedUpdates = "once",
        seed: int = 0,
    ) -> None:
        check_choice("leak", leak, get_args(Leak))
        check_choice("init", init, get_args(Init))
        check_choice("tied_updates", tied_updates, get_args(TiedUpdates))
        check_flag("use_delta", use_delta)
        check_whole("seed", seed, most=None)
        super().__init__(target)
        self.leak, self.use_delta, self.init, self.seed = leak, use_delta, init, seed
        self.ties, self.tied_updates = dict(ties or {}), tied_updates
        self.sites = dict(sites)
        found = find_sites(target, sites)
        tied = TransposedComponents if tied_updates == "once" else StorageTiedComponents
        self.components = SiteDict(self.tied_components(found, self.ties, Components, tied))
        self.ci_fns: SiteDict[CIFunction] = SiteDict(
            {name: self._build_ci_fn(ci_fn, layer, count) for name, (layer, count) in found.items()}
        )
        self.reset()

    @classmethod
    def from_pretrained(
        cls, run_dir: str | Path, target: nn.Module | None = None, ci_fn: CIFactory | None = None
    ) -> "DecomposedModel":
        """Restore a decomposition from ``components.safetensors`` and ``config.json``.

        Args:
            run_dir: the folder that holds both files.
            target: needed when the decomposed network is a class of yours; its weights are filled in from
                the file, or checked against it where the file leaves them out.
            ci_fn: needed when the causal-importance functions are a class of yours.

        Returns:
            The decomposition, with the same numbers that were saved.

        Raises:
            UsageError: if files are missing, damaged, or do not fit the target.
        """
        # the artefact's format belongs to export, which builds on this class
        from spd_lightning.export import load_decomposition

        return load_decomposition(run_dir, target, ci_fn)

    def describe_ci_fn(self) -> dict[str, Any]:
        """Class and hyper-parameters of the causal-importance functions, as plain data."""
        _, ci_fn = next(iter(self.ci_fns.items()))
        return describe(ci_fn, {"n_components", "d_in"})

    def reset(self) -> None:
        """Draw components and causal-importance functions anew from the seed, for the target's present weights."""
        for name in self.site_names:
            self.components[name].reset(self.init, keyed_generator(self.seed, "components", name))
            self.ci_fns[name].reset(keyed_generator(self.seed, "ci_fn", name))

    def start_from_examples(self, x: Any) -> None:
        """Start the components anew from what reaches their sites; causal-importance functions stay.

        Args:
            x: the target's input.

        Raises:
            UsageError: if nothing but zeros reaches a site.
        """
        with full_precision(next(iter(self.components.values())).V):
            for name, site_input in self.clean(x).site_inputs.items():
                try:
                    self.components[name].start_from(site_input, keyed_generator(self.seed, "examples", name))
                except ValueError as error:
                    raise UsageError(f"init: 'examples' cannot start {name!r}: {error}; use 'random'") from None

    def importance_of(self, x: Any) -> dict[str, CausalImportance]:
        """Causal importances of every example, see :meth:`causal_importance`."""
        return self.causal_importance(self.clean(x).site_inputs)

    def causal_importance(self, site_inputs: Mapping[str, Tensor]) -> dict[str, CausalImportance]:
        """Predict how far each component may be ablated, under mixed precision too by gates in full precision.

        Args:
            site_inputs: clean inputs of the sites, as recorded by :meth:`clean`.

        Returns:
            Logits and both leaky sigmoids per site.
        """
        importances = {}
        for name, site_input in site_inputs.items():
            inner = self.components[name].inner(site_input).to(self.components[name].V.dtype)
            with full_precision(inner):
                logits = self.ci_fns[name](inner, site_input.to(inner.dtype))
            importances[name] = CausalImportance(logits, lower_leaky(logits, self.leak), upper_leaky(logits))
        return importances

    @staticmethod
    def _build_ci_fn(ci_fn: CIFactory, layer: nn.Linear, count: int) -> CIFunction:
        return ci_fn(count, layer.in_features).to(layer.weight)  # the type and device of what it reads
