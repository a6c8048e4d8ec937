"""A whole reconstruction loss restated on ``tests.reference``, from the input to the scalar, on given random draws."""

import torch

from spd_lightning.functional import independent_subset, keyed_seed, uniform_subset
from spd_lightning.kernels import row_uniforms
from tests import reference

LOWER = {
    "one_sided": (reference.lower_one_sided, reference.lower_one_sided_backward),
    "linear": (reference.lower_linear, reference.lower_linear_backward),
}


def flat(tensor):
    return tensor.reshape(-1, tensor.shape[-1])


def sites_of(model):
    return {name: (parts.site.weight(), parts.V, parts.U) for name, parts in model.components.items()}


def logits_of(model, x):
    """Gate logits per site on clean inputs, by the reference; the sites are the matrices of the toy model in order."""
    logits, a = {}, flat(x)
    for name, (W, V, _) in sites_of(model).items():
        inner = torch.stack([torch.stack([(row * V[:, c]).sum() for c in range(V.shape[1])]) for row in a])
        gate = model.importance_function.functions[name]
        logits[name] = reference.gate_mlp(inner, list(gate.weights), list(gate.biases))
        a = torch.stack([W @ row for row in a])
    return logits


def lower_of(model, logits):
    return {name: reference.elementwise(*LOWER[model.leak], z) for name, z in logits.items()}


def draw_subset(loss, step, generator):
    if loss.routing != "subset":
        return None
    leading, names = step.batch.shape[:-1], step.model.site_names
    if loss.subset_probability is None:
        return uniform_subset(names, leading, generator)
    return independent_subset(names, leading, loss.subset_probability, generator)


def draw(shape, generator):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def sampled_masks(loss, step, logits, generator):
    """Masks and delta masks per site, flattened, in the order in which the loss draws."""
    model, leading = step.model, step.batch.shape[:-1]
    if loss.sources == "binomial":
        noise = {name: flat(draw((*leading, z.shape[-1]), generator)) for name, z in logits.items()}
        logits = {name: 1.05 * z - 0.05 * noise[name] for name, z in logits.items()}
    lower = lower_of(model, logits)
    if loss.sources == "ci":
        return lower, None
    if loss.sources == "ones":
        return {name: torch.ones_like(g) for name, g in lower.items()}, None
    masks, deltas, seed = {}, {}, generator.initial_seed()
    for name, g in lower.items():
        if loss.sources == "uniform":  # each site's under a seed of its own
            shape = torch.Size((*leading, g.shape[-1]))
            source = flat(row_uniforms(shape, keyed_seed(seed, name), g, compiled=False))
        else:
            source = (flat(draw((*leading, g.shape[-1]), generator)) < 0.5).double()
        masks[name] = reference.mask(g, source)
        if model.use_delta:
            deltas[name] = draw(leading, generator).flatten()
    return masks, deltas or None


def distance_of(loss, step, masks, deltas, subset):
    distance, x = getattr(reference, loss.distance), flat(step.batch)
    sites, bias = sites_of(step.model), step.model.target.linear2.bias
    if loss.routing == "layerwise":
        return reference.layerwise_reconstruction(distance, x, sites, bias, masks, deltas)
    routed = None if subset is None else {name: runs.flatten() for name, runs in subset.items()}
    return reference.joint_reconstruction(distance, x, sites, bias, masks, deltas, routed)


def reconstruction(loss, step):
    """The loss, averaged over its samples."""
    logits, terms = logits_of(step.model, step.batch), []
    for sample in range(loss.samples):
        generator = step.noise.generator(sample)
        subset = draw_subset(loss, step, generator)
        masks, deltas = sampled_masks(loss, step, logits, generator)
        terms.append(distance_of(loss, step, masks, deltas, subset))
    return sum(terms) / len(terms)
