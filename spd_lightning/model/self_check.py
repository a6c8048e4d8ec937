"""Proof, on one batch, that a target can be wrapped: what misbehaves is refused in one line before the first step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from spd_lightning.errors import UsageError
from spd_lightning.functional.seeds import keyed_generator
from spd_lightning.model.acceptance import first_line, in_one_line, taking
from spd_lightning.model.bypass import bypassed_module
from spd_lightning.model.component_model import ComponentModel
from spd_lightning.model.masks import SiteMask
from spd_lightning.model.passes import CleanPass, MaskedPass
from spd_lightning.model.wrapping import Original, place_name, site_of

TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 2e-2}
"""Largest difference of what should be equal, as a share of its root mean square, by the target's type."""
PLAIN = "set model.speed.step: plain, and please report it"
RunMasked = Callable[[Mapping[str, SiteMask]], MaskedPass]


def check_wrapping(model: ComponentModel, batch: Any, fast: Callable[[Any], Any] | None = None) -> None:
    """Check that a target computes the same thing however it is run, and that gradients reach every component.

    It takes the batch. Two clean passes agree, and leave the batch, the weights and the buffers as they were. Site
    weights are used through their modules alone. With all masks and the delta component on, together and site by site,
    the output is the target's. Gradients flow to every site and nothing is computed again for them. Where a fast form
    is given, it agrees with the plain one in all of this. Tensors that the network overwrites are noticed and copied
    from then on.

    Args:
        model: the decomposition.
        batch: a batch, as the call takes it; it is not changed.
        fast: makes the fast form of a batch; ``None`` checks the plain form alone.

    Raises:
        UsageError: naming the site, what the network does, and the way out.
    """
    devices = {p.device for p in model.target.parameters() if p.device.type == "cuda"}
    full_precision = torch.autocast(model_device(model).type, enabled=False)
    with torch.random.fork_rng(devices=list(devices)), full_precision, in_one_line():
        _check_all(model, batch, fast)


def _check_all(model: ComponentModel, batch: Any, fast: Callable[[Any], Any] | None) -> None:
    check = _Check(model, batch)
    check.repeated()
    check.weights_fit()
    check.not_bypassed()
    check.with_everything_on("plain", lambda masks: model.masked(batch, masks))
    gradients = check.gradients("plain", lambda masks: model.masked(batch, masks))
    if fast is not None:
        with torch.enable_grad():  # inner activations are read as the form is made
            form = fast(batch)
        check.same(form.clean.output, check.clean.output, "target: its output differs in the fast form; " + PLAIN)
        check.with_everything_on("fast", form.masked)
        check.alike(gradients, check.gradients("fast", form.masked))
    check.untouched()


class _Check:
    """One batch, what a clean pass said of it, and what must be so.

    Args:
        model: the decomposition.
        batch: as the call takes it.
    """

    def __init__(self, model: ComponentModel, batch: Any) -> None:
        self.model, self.batch = model, batch
        self.copy = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, batch)
        self.state = _state(model.target)
        torch.manual_seed(0)
        self.clean = self._noting_hidden_writes()
        self.tolerance = TOLERANCES.get(_kind(model), 1e-3)

    def _noting_hidden_writes(self) -> CleanPass:
        """A clean pass that also sees writes which no version counter counts, such as those through ``.data``."""
        model, places = self.model, {}

        def record(path: str, index: int, site_input: Tensor, original: Original) -> Any:
            output = original(site_input)
            for side, tensor in (("in", site_input), ("out", output)):
                if isinstance(tensor, Tensor):
                    places[place_name(path, index, side)] = tensor, tensor.clone()
            return output

        with torch.no_grad(), taking(model.call, self.batch):
            model.wrapping.run(self.batch, record)
        written = {name for name, (tensor, before) in places.items() if not _equal(tensor, before)}
        model.wrapping.copied |= written
        torch.manual_seed(0)
        return model.clean(self.batch)

    def repeated(self) -> None:
        """Another clean pass says the same; neither changes what it is given."""
        if self.clean.output.isnan().any():
            raise UsageError("target: its output holds NaN on the first batch; look at the data and the weights")
        self.untouched()
        torch.manual_seed(1)
        again = self.model.clean(self.batch)
        if self._says_the_same(again):
            return
        if self._depends_on_the_seed_alone():
            raise UsageError(
                "target: it draws at random in eval mode (two passes over one batch differ); switch dropout and "
                "sampling off, or make them depend on self.training"
            )
        raise UsageError(
            "target: it keeps state from one pass to the next (two passes over one batch differ); reset it in forward"
        )

    def _depends_on_the_seed_alone(self) -> bool:
        same = []
        for _ in range(2):  # twice: state may come back to what it was
            torch.manual_seed(0)
            same.append(self._says_the_same(self.model.clean(self.batch)))
        return all(same)

    def _says_the_same(self, again: CleanPass) -> bool:
        if list(again.site_inputs) != list(self.clean.site_inputs):
            return False
        pairs = [(again.output, self.clean.output)]
        pairs += [(again.site_inputs[call], x) for call, x in self.clean.site_inputs.items()]
        return all(_close(one, other, self.tolerance) for one, other in pairs)

    def untouched(self) -> None:
        """The batch, the weights and the buffers are what they were."""
        pairs = zip(tree_leaves(self.batch), tree_leaves(self.copy), strict=True)
        if any(isinstance(leaf, Tensor) and not _equal(leaf, copy) for leaf, copy in pairs):
            raise UsageError("target: it writes into its input; let forward begin with a copy, such as x = x.clone()")
        changed = [name for name, before in _state(self.model.target).items() if before != self.state.get(name)]
        if changed:
            raise UsageError(
                f"target: a forward changes its own {changed[0]!r}; it must leave weights and buffers alone"
            )

    def weights_fit(self) -> None:
        """The weights of positions fit every site and the output."""
        shapes = {"the output": self.clean.output.shape[:-1]}
        for call, site_input in self.clean.site_inputs.items():
            shapes[repr(call)] = self.model.components[site_of(call)].read(site_input).shape[: -self._inner_dims]
        for name, leading in shapes.items():
            try:
                self.clean.weights.of(leading)
            except ValueError as error:
                raise UsageError(f"call: {name}: {error}; choose other weights, or none") from None

    @property
    def _inner_dims(self) -> int:
        return next(iter(self.model.components.values())).V.dim() - 1

    def not_bypassed(self) -> None:
        """No weight of a site is used but by calling its module."""
        path = bypassed_module(self.model.wrapping, self.batch)
        if path is not None:
            raise UsageError(
                f"sites: the target uses the weight of {path!r} without calling it; call it, or leave it out"
            )

    def with_everything_on(self, form: str, masked: RunMasked) -> None:
        """With all components and the delta component on the output is the target's, together and site by site."""
        masks = self._masks(lambda shape: torch.ones(shape))
        way_out = PLAIN if form == "fast" else "is it the same function with and without gradients?"
        for names in [list(masks), *([name] for name in masks)]:
            output = self._run(masked, {name: masks[name] for name in names})
            where = f"sites: {names[0]!r}" if len(names) == 1 else "target"
            self.same(
                output,
                self.clean.output,
                f"{where}: with everything on, the output is not the target's ({form} form); {way_out}",
            )

    def gradients(self, form: str, masked: RunMasked) -> dict[str, Tensor]:
        """Gradients of a random reading of the output, under random masks, by factor; none may be missing."""
        generator = keyed_generator("self-check")
        masks = self._masks(lambda shape: 0.1 + 0.8 * torch.rand(shape, generator=generator))
        with torch.enable_grad(), self._counting() as called:
            output = self._run(masked, masks)
            reading = torch.randn(output.shape, generator=keyed_generator("reading")).to(output)
            finite = output.isfinite()
            if not output.requires_grad:
                raise UsageError(
                    "target: its output carries no gradient to any component; remove no_grad, detach and conversions "
                    "to numpy from forward"
                )
            factors = self._factors()
            called.clear()
            reading_of_output = torch.where(finite, output * reading, 0).sum()
            try:
                found = torch.autograd.grad(reading_of_output, list(factors.values()), allow_unused=True)
            except RuntimeError as error:
                _refuse_recomputation(called)
                raise UsageError(
                    f"target: gradients cannot pass ({first_line(error)}); let it write to copies in place of tensors "
                    "that it reads again"
                ) from None
        _refuse_recomputation(called)
        return self._reaching(dict(zip(factors, found, strict=True)), masks, masked)

    def _reaching(
        self, found: dict[str, Tensor | None], masks: Mapping[str, SiteMask], masked: RunMasked
    ) -> dict[str, Tensor]:
        """The gradients, once every site is known to get one where the output depends on it."""
        for name, parts in self.model.components.items():
            if not parts.owns_factors or any(_moves(found[f"{name}.{factor}"]) for factor in "VU"):
                continue
            off = {**masks, name: SiteMask(torch.zeros_like(masks[name].components), masks[name].delta)}
            with torch.no_grad():
                one, other = self._run(masked, masks), self._run(masked, off)
            if not _close(one, other, self.tolerance):
                raise UsageError(
                    f"sites: no gradient reaches {name!r}, though the output depends on it; remove no_grad, detach and "
                    "conversions to numpy from forward, or leave the site out"
                )
        factors = self._factors()
        return {name: torch.zeros_like(factors[name]) if g is None else g for name, g in found.items()}

    def alike(self, plain: Mapping[str, Tensor], fast: Mapping[str, Tensor]) -> None:
        """Gradients of both forms are the same."""
        for name, gradient in plain.items():
            if not _close(fast[name], gradient, 10 * self.tolerance):
                site = name.rpartition(".")[0]
                raise UsageError(f"sites: {site!r}: its gradient differs in the fast form; {PLAIN}")

    def same(self, found: Tensor, wanted: Tensor, told: str) -> None:
        """Refuse two tensors that differ."""
        if not _close(found, wanted, self.tolerance):
            raise UsageError(told)

    def _run(self, masked: RunMasked, masks: Mapping[str, SiteMask]) -> Tensor:
        try:
            return masked(masks).output
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"target: on masked components its forward fails ({first_line(error)}), which it does not by itself; "
                "remove what cannot carry gradients, such as conversions to numpy"
            ) from None

    def _masks(self, draw: Callable[[Sequence[int]], Tensor]) -> dict[str, SiteMask]:
        """Masks of all site calls, with the delta component on throughout."""
        masks = {}
        for call, site_input in self.clean.site_inputs.items():
            parts = self.model.components[site_of(call)]
            with torch.no_grad():
                leading = parts.read(site_input).shape[: -self._inner_dims]
            components = draw((*leading, parts.n_components)).to(parts.V)
            masks[call] = SiteMask(components, components.new_ones(leading))
        return masks

    def _factors(self) -> dict[str, Tensor]:
        owners = {name: parts for name, parts in self.model.components.items() if parts.owns_factors}
        return {f"{name}.{factor}": getattr(parts, factor) for name, parts in owners.items() for factor in "VU"}

    @contextmanager
    def _counting(self) -> Iterator[set[str]]:
        """Paths of site modules that are called while nothing stands in for them."""
        called: set[str] = set()
        hooks = [
            self.model.wrapping.module(path).register_forward_pre_hook(lambda *_, path=path: called.add(path))
            for path in self.model.wrapping.modules
        ]
        try:
            yield called
        finally:
            for hook in hooks:
                hook.remove()


def _refuse_recomputation(called: set[str]) -> None:
    if called:
        raise UsageError(
            f"sites: {sorted(called)[0]!r} is called again for the gradients; switch gradient checkpointing off"
        )


def model_device(model: ComponentModel) -> torch.device:
    """Where a decomposition's components are."""
    return next(iter(model.components.values())).V.device


def _kind(model: ComponentModel) -> torch.dtype:
    """The least precise of the target's types."""
    kinds = {p.dtype for p in model.target.parameters() if p.is_floating_point()}
    return next((kind for kind in (torch.bfloat16, torch.float16, torch.float32) if kind in kinds), torch.float64)


def _state(target: nn.Module) -> dict[str, tuple[int, str]]:
    """Of every weight and buffer how often it was written to, and the sum of its numbers."""
    named = target.state_dict(keep_vars=True)
    return {
        name: (t._version, str(t.detach().double().sum().item())) for name, t in named.items() if isinstance(t, Tensor)
    }


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by no more than a share of their size; infinities must be the same."""
    if one.shape != other.shape:
        return False
    if not other.is_floating_point():
        return _equal(one, other)
    finite = other.isfinite()
    if not torch.equal(one.isfinite(), finite):
        return False
    one, other = one[finite].double(), other[finite].double()
    return not one.numel() or bool(
        (one - other).square().mean().sqrt() <= tolerance * (other.square().mean().sqrt() + 1e-12)
    )


def _moves(gradient: Tensor | None) -> bool:
    return gradient is not None and bool((gradient != 0).any())
