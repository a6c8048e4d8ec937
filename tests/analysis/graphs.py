"""Importances that are given, and attributions looked up pair by pair."""

from collections import Counter

import torch
from torch import nn

from spd_lightning import DecomposedModel
from spd_lightning.model import ImportanceFunction


class Given(ImportanceFunction):
    """Importances that are numbers in [0, 1], by site or site call, ``[C]`` or ``[..., C]``."""

    def __init__(self, sites, values):
        super().__init__(sites)
        self.values = values

    def forward(self, inner, features):
        return {call: self._of(call).to(read).expand(read.shape) for call, read in inner.items()}

    def _of(self, call):
        return self.values[call] if call in self.values else self.values[call.partition("@")[0]]

    def reset(self, generator):
        pass


def given(target, counts, values, **options):
    """A decomposition with such importances; components are random."""
    values = {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
    model = DecomposedModel(target, counts, importance=lambda sites: Given(sites, values), **options)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.components.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def edges_of(graph):
    """Edges by the names of their ends."""
    ends = zip(graph.source.tolist(), graph.target.tolist(), graph.signed.tolist(), strict=True)
    return {(graph.name_of(source), graph.name_of(target)): value for source, target, value in ends}


def node_of(graph, name):
    return [graph.name_of(node) for node in range(graph.n_nodes)].index(name)


class Looped:
    """A network held at what every site put out, and how one number moves if one node writes a little more.

    Written with hooks on modules, for sites that are whole modules called with one tensor.
    """

    def __init__(self, model: DecomposedModel, batch):
        self.model, self.batch = model, batch
        self.clean = {}
        self._run(lambda call, module, output: self.clean.setdefault(call, output.detach().clone()))

    def _run(self, change, look=None):
        calls = Counter(call.partition("@")[0] for call in self.model.clean(self.batch).site_inputs)
        seen, hooks = Counter(), []
        for name in self.model.site_names:
            module = self.model.target.get_submodule(name)

            def before(module, args, name=name):
                if look is not None:
                    look(self._call(name, seen[name], calls), args[0])

            def after(module, args, output, name=name):
                call = self._call(name, seen[name], calls)
                seen[name] += 1
                return change(call, module, output)

            hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        try:
            arguments = self.model.call.arguments(self.batch)
            returned = self.model.target(*arguments.args, **arguments.kwargs)
            return self.model.call.chosen(returned)
        finally:
            for hook in hooks:
                hook.remove()

    @staticmethod
    def _call(name, index, calls):
        return name if calls[name] == 1 else f"{name}@{index}"

    def attribution(self, source, target):
        """Of a component ``(call, component, position)`` to one, or to an output ``("output", entry, position)``."""
        call, component, position = source
        site = call.partition("@")[0]
        parts, step = self.model.components[site], torch.zeros((), dtype=torch.float64, requires_grad=True)
        read = {}

        def change(at, module, output):
            held = self.clean[at].clone()
            if at == call:
                added = torch.zeros_like(held).reshape(-1, held.shape[-1])
                added[max(position, 0)] = parts.U[component].detach()
                held = held + step * added.reshape(held.shape)
            return held

        def look(at, site_input):
            if at == target[0] and not isinstance(self.model.target.get_submodule(at.partition("@")[0]), nn.Embedding):
                V = self.model.components[at.partition("@")[0]].V.detach()
                read[at] = (site_input @ V).reshape(-1, V.shape[1])[max(target[2], 0), target[1]]

        output = self._run(change, look)
        number = read.get(target[0])
        if target[0] == "output":
            number = output.reshape(-1, output.shape[-1])[max(target[2], 0), target[1]]
        if number is None or not number.requires_grad:
            return 0.0
        (slope,) = torch.autograd.grad(number, step, allow_unused=True)
        clean = self.model.clean(self.batch)
        inner = parts.inner(clean.site_inputs[call]).reshape(-1, parts.n_components)
        importance = self.model.importance(clean)[call].lower.reshape(-1, parts.n_components)
        at = max(position, 0), component
        return 0.0 if slope is None else float(slope * (inner * importance).detach()[at])


def key_of(graph, node):
    """Place, index and position of a node."""
    return graph.places[int(graph.place[node])], int(graph.index[node]), int(graph.position[node])


def of_kind(graph, *kinds):
    return [node for node in range(graph.n_nodes) if int(graph.kind[node]) in kinds]
