"""The formulas of the method once more, slowly and obviously: one site, one component, one example at a time.

Nothing here imports the code under test. Tensors appear only so that autograd can differentiate what the formulas say;
where a gradient is a rule of its own (the leaky sigmoids), the rule is written out per scalar.

A site is ``(W [d_out, d_in], V [d_in, C], U [C, d_out])``; examples are rows, leading dimensions already flattened.
"""

import math
from itertools import permutations

import torch

# ---- leaky hard sigmoids: value of one logit z, and its gradient given the incoming gradient G


def lower_linear(z):
    if z <= 0:
        return 0.01 * z
    return z if z <= 1 else 1.0


def lower_linear_backward(z, G):
    if z <= 0:
        return 0.01 * G
    return G if z <= 1 else 0.0


def lower_one_sided(z):
    return min(max(z, 0.0), 1.0)


def lower_one_sided_backward(z, G):
    if z <= 0:
        return 0.01 * G if G < 0 else 0.0
    return G if z <= 1 else 0.0


def upper(z):
    if z <= 0:
        return 0.0
    return z if z <= 1 else 1.0 + 0.01 * (z - 1.0)


def upper_backward(z, G):
    if z <= 0:
        return 0.0
    return G if z <= 1 else 0.01 * G


def elementwise(value, backward, logits):
    """Apply a scalar function to every logit, with the stated backward rule."""
    values = torch.tensor([value(z) for z in logits.flatten().tolist()], dtype=logits.dtype).reshape(logits.shape)

    def rule(gradient):
        pairs = zip(logits.flatten().tolist(), gradient.flatten().tolist(), strict=True)
        return torch.tensor([backward(z, G) for z, G in pairs], dtype=gradient.dtype).reshape(gradient.shape)

    carrier = logits * 1.0
    if carrier.requires_grad:
        carrier.register_hook(rule)
    return values + (carrier - carrier.detach())


# ---- causal-importance functions


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def _rest_of_gate(state, c, weights, biases, first=0):
    """What the gate of component c makes of a layer's input, a list of numbers, from its layer ``first`` on."""
    for k in range(first, len(weights)):
        total = [
            sum(state[i] * weights[k][c, i, o] for i in range(len(state))) + biases[k][c, o]
            for o in range(weights[k].shape[2])
        ]
        state = [gelu(t) for t in total] if k < len(weights) - 1 else total
    return state[0]


def gate_mlp(h, weights, biases):
    """A scalar-to-scalar MLP per component; weights[k] is [C, in, out], biases[k] is [C, out]."""
    logits = []
    for n in range(h.shape[0]):
        row = []
        for c in range(h.shape[1]):
            row.append(_rest_of_gate([h[n, c]], c, weights, biases))
        logits.append(torch.stack(row))
    return torch.stack(logits)


def even_gate_mlp(h, weights, biases):
    """As :func:`gate_mlp`, but what the first hidden layer passes on is that of h plus that of -h, over sqrt(2)."""
    logits = []
    for n in range(h.shape[0]):
        row = []
        for c in range(h.shape[1]):
            state = []
            for o in range(weights[0].shape[2]):
                up = gelu(h[n, c] * weights[0][c, 0, o] + biases[0][c, o])
                down = gelu(-h[n, c] * weights[0][c, 0, o] + biases[0][c, o])
                state.append((up + down) / math.sqrt(2))
            row.append(_rest_of_gate(state, c, weights, biases, first=1))
        logits.append(torch.stack(row))
    return torch.stack(logits)


def shared_mlp(a, weights, biases):
    """One MLP for all components; weights[k] is [out, in]."""
    rows = []
    for vector in a:
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            vector = torch.stack([(weight[o] * vector).sum() + bias[o] for o in range(len(bias))])
            if k < len(weights) - 1:
                vector = gelu(vector)
        rows.append(vector)
    return torch.stack(rows)


def vector_mlp(a, weights, biases):
    """One MLP per component, each reading the whole vector; weights[k] is [C, in, out], biases[k] is [C, out]."""
    components = range(weights[0].shape[0])
    rows = [[_rest_of_gate(list(vector), c, weights, biases) for c in components] for vector in a]
    return torch.stack([torch.stack(row) for row in rows])


# ---- masks, effective weights and the masked toy model


def mask(g, r):
    """m = g + (1 - g) r, entry by entry; both [N, C]."""
    rows = [[g[n, c] + (1 - g[n, c]) * r[n, c] for c in range(g.shape[1])] for n in range(g.shape[0])]
    return torch.stack([torch.stack(row) for row in rows])


def rank_one_sum(V, U, m):
    """The matrix U diag(m) V of one example, [d_out, d_in]."""
    return sum(m[c] * torch.outer(U[c], V[:, c]) for c in range(V.shape[1]))


def effective_weight(site, m, m_delta=None):
    W, V, U = site
    weight = rank_one_sum(V, U, m)
    if m_delta is not None:
        weight = weight + m_delta * (W - rank_one_sum(V, U, torch.ones_like(m)))
    return weight


def tms(x, matrices, bias):
    """One example through the toy model: every matrix in turn, the bias of the last, ReLU."""
    for matrix in matrices:
        x = torch.stack([(row * x).sum() for row in matrix])
    return torch.clamp(x + bias, min=0)


def masked_tms(x, sites, bias, masks, deltas=None, routed=None):
    """Output per example; a site without masks, or not routed for the example, runs the target's own weight."""
    outputs = []
    for n in range(len(x)):
        matrices = []
        for name, site in sites.items():
            if name in masks and (routed is None or bool(routed[name][n])):
                matrices.append(effective_weight(site, masks[name][n], None if deltas is None else deltas[name][n]))
            else:
                matrices.append(site[0])
        outputs.append(tms(x[n], matrices, bias))
    return torch.stack(outputs)


def joint_reconstruction(distance, x, sites, bias, masks, deltas=None, routed=None):
    clean = torch.stack([tms(row, [W for W, _, _ in sites.values()], bias) for row in x])
    return distance(masked_tms(x, sites, bias, masks, deltas, routed), clean)


def layerwise_reconstruction(distance, x, sites, bias, masks, deltas=None):
    """One site replaced at a time, the others at the target's own weights; divided by the number of sites."""
    terms = [joint_reconstruction(distance, x, sites, bias, {name: masks[name]}, deltas) for name in sites]
    return sum(terms) / len(sites)


# ---- distances and penalties


def mse(prediction, target):
    squares = [(p - t) ** 2 for p, t in zip(prediction.flatten(), target.flatten(), strict=True)]
    return sum(squares) / len(squares)


def kl(prediction, target):
    """KL(target || prediction): sum over the vocabulary, mean over examples."""
    total = 0.0
    for q_logits, p_logits in zip(prediction, target, strict=True):
        p = torch.exp(p_logits) / torch.exp(p_logits).sum()
        q = torch.exp(q_logits) / torch.exp(q_logits).sum()
        total = total + sum(p[v] * (torch.log(p[v]) - torch.log(q[v])) for v in range(len(p)))
    return total / len(prediction)


def faithfulness(sites):
    squares, entries = 0.0, 0
    for W, V, U in sites:
        for i in range(W.shape[0]):
            for j in range(W.shape[1]):
                approximation = sum(U[c, i] * V[j, c] for c in range(V.shape[1]))
                squares, entries = squares + (W[i, j] - approximation) ** 2, entries + 1
    return squares / entries


def importance_minimality(uppers, p, eps=1e-12):
    """Sum over sites and components, mean over examples; [N, C] per site."""
    examples = len(uppers[0])
    return sum((g + eps) ** p for upper_ci in uppers for row in upper_ci for g in row) / examples


def frequency_minimality(uppers, p, reference, eps=1e-12):
    """Sum over sites and components of the share f of examples times log2(1 + reference f); [N, C] per site."""
    total = 0.0
    for upper_ci in uppers:
        for c in range(upper_ci.shape[1]):
            f = sum((row[c] + eps) ** p for row in upper_ci) / len(upper_ci)
            total = total + f * torch.log(1 + reference * f) / math.log(2)
    return total


def frequency_weighted_importance(uppers, p, exponent, rare_exponent, eps=1e-12):
    """Shares f of examples, each times a constant power of f, scaled per site to the sum of shares; [N, C] per site.

    The power is of f relative to the site's typical one, of a hundredth at least; below 1 it is the rare exponent.
    """
    total = 0.0
    for upper_ci in uppers:
        shares = [sum((row[c] + eps) ** p for row in upper_ci) / len(upper_ci) for c in range(upper_ci.shape[1])]
        constants = [f.detach() for f in shares]
        typical = math.exp(sum(f**0.5 * math.log(f) for f in constants) / sum(f**0.5 for f in constants))
        ratios = [max(f / typical, 0.01) for f in constants]
        prices = [ratio ** (exponent if ratio > 1 else rare_exponent) for ratio in ratios]
        scale = sum(constants) / sum(price * f for price, f in zip(prices, constants, strict=True))
        total = total + sum(scale * price * f for price, f in zip(prices, shares, strict=True))
    return total


def _mean(values):
    return sum(values) / len(values)


def company(importances):
    """For each component the larger of how much less alone it is and how closely another keeps to it; [N, C]."""
    closest, found = pairwise_company(importances), []
    for c in range(importances.shape[1]):
        own = [row[c] for row in importances]
        alone = [1 / (1 + sum(row) - row[c]) for row in importances]
        where = _mean([g * a for g, a in zip(own, alone, strict=True)])
        less_alone = 1 - where / _mean(own) / _mean(alone) if sum(own) > 0 else 0.0
        found.append(max([less_alone, *closest[c]]))
    return found


def pairwise_company(importances):
    """How closely each component's importance keeps to each other one's, a row per component; [N, C]."""
    found = []
    for c in range(importances.shape[1]):
        own, row_of_c = [row[c] for row in importances], []
        for d in range(importances.shape[1]):
            other = [row[d] for row in importances]
            size = math.sqrt(_mean([g * g for g in own]) * _mean([h * h for h in other]))
            both = _mean([g * h for g, h in zip(own, other, strict=True)])
            chance = _mean(own) * _mean(other)
            row_of_c.append(1 - (size - both) / (size - chance + 1e-4 * size) if d != c and size > 0 else 0.0)
        found.append(row_of_c)
    return found


def absences(importances):
    """How much of where a component is important each other one is not, a row per component; [N, C]."""
    found = []
    for c in range(len(importances[0])):
        own = sum(row[c] for row in importances)
        found.append(
            [
                sum(row[c] * (1 - row[d]) for row in importances) / own if own > 0 else 0.0
                for d in range(len(importances[0]))
            ]
        )
    return found


def contribution_sparsity(sites):
    """Sum over sites and components of the length of what each writes, mean over examples; (a, V, U) per site."""
    total = 0.0
    for a, V, U in sites:
        for row in a:
            for c in range(V.shape[1]):
                written = [sum(row[j] * V[j, c] for j in range(len(row))) * U[c, i] for i in range(U.shape[1])]
                total = total + torch.sqrt(sum(w**2 for w in written)) / len(a)
    return total


def rank_penalty(sites, power, eps=1e-8):
    """Sum over sites and components of their length relative to the weight, to a power; (V, U, W) per site."""
    total = 0.0
    for V, U, W in sites:
        whole = sum(w**2 for w in W.reshape(-1))
        for c in range(V.shape[1]):
            entries = [(V[j, c] * U[c, i]) ** 2 for j in range(V.shape[0]) for i in range(U.shape[1])]
            total = total + (sum(entries) / whole + eps) ** (power / 2)
    return total


def importance_covariance(importances):
    """Sum over sites and pairs of different components of the covariance of their importances; [N, C] per site."""
    total = 0.0
    for ci in importances:
        examples, components = ci.shape
        for c in range(components):
            for d in range(components):
                if c != d:
                    mean_c = sum(ci[:, c]) / examples
                    mean_d = sum(ci[:, d]) / examples
                    total = total + sum((row[c] - mean_c) * (row[d] - mean_d) for row in ci) / examples
    return total


# ---- the older method: components of any rank that span all sites
#      a site is (W [d_out, d_in], V [d_in, C, m], U [C, m, d_out])


def full_component(V, U, c):
    """The matrix of component c, [d_out, d_in]."""
    return sum(torch.outer(U[c, k], V[:, c, k]) for k in range(V.shape[2]))


def attributions(network, sites, x):
    """Per example and component, from one gradient of the weights for every output; network(weights, example)."""
    rows = []
    for example in x:
        weights = [W.detach().clone().requires_grad_() for W, _, _ in sites]
        output = network(weights, example)
        per_component = [0.0] * sites[0][1].shape[1]
        for o in range(len(output)):
            gradients = torch.autograd.grad(output[o], weights, retain_graph=True)
            for c in range(len(per_component)):
                change = sum(
                    (gradient * full_component(V, U, c)).sum()
                    for gradient, (_, V, U) in zip(gradients, sites, strict=True)
                )
                per_component[c] = per_component[c] + change**2 / len(output)
        rows.append(torch.stack([value.sqrt() for value in per_component]))
    return torch.stack(rows)


def batch_topk(scores, k):
    """1 where an entry is one of the int(k N) largest of the batch and above 0."""
    entries = [(float(s), n, c) for n, row in enumerate(scores) for c, s in enumerate(row)]
    kept = sorted(entries, key=lambda entry: -entry[0])[: int(k * len(scores))]
    mask = torch.zeros_like(scores)
    for score, n, c in kept:
        mask[n, c] = 1.0 if score > 0 else 0.0
    return mask


def full_output(site, m, a):
    """What the site puts out on components weighted by m, without bias."""
    _, V, U = site
    return sum(m[c] * (full_component(V, U, c) @ a) for c in range(V.shape[1]))


def simplicity(sites, mask, p, eps=1e-16):
    total, entries = 0.0, sum(W.numel() for W, _, _ in sites)
    for b in range(mask.shape[0]):
        for c in range(mask.shape[1]):
            for _, V, U in sites:
                for k in range(V.shape[2]):
                    squared = sum(v**2 for v in V[:, c, k]) * sum(u**2 for u in U[c, k])
                    total = total + (squared * mask[b, c] + eps) ** (p / 2)
    return total / entries / mask.shape[0]


def hidden_error(found, wanted):
    """Squared error of what a ReLU makes of pre-activations [N, width] per site, over all neurons."""
    total, width = 0.0, sum(pre.shape[1] for pre in wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        for one, other in zip(mine.flatten(), theirs.flatten(), strict=True):
            total = total + (torch.clamp(one, min=0) - torch.clamp(other, min=0)) ** 2
    return total / width / len(wanted[0])


# ---- recovery


def best_components(V, U, W):
    """Per column j of W: the component of largest signed cosine, that cosine, and the ratio of lengths."""
    found = []
    for j in range(W.shape[1]):
        column = W[:, j]
        candidates = []
        for c in range(V.shape[1]):
            mine = U[c] * V[j, c]
            cosine = float(mine @ column) / (float(mine.norm()) * float(column.norm()))
            if mine.norm() < 1e-3 * column.norm():
                cosine = 0.0
            candidates.append((cosine, c, float(mine.norm()) / float(column.norm())))
        found.append(max(candidates))
    return found


def mmcs(V, U, W):
    best = best_components(V, U, W)
    return sum(cosine for cosine, _, _ in best) / len(best)


def ml2r(V, U, W):
    best = best_components(V, U, W)
    return sum(ratio for _, _, ratio in best) / len(best)


def identity_contradictions(table, tolerance):
    """Try every assignment of columns to rows; among those of largest sum, count the fewest errors."""
    rows, columns = table.shape
    values = table.tolist()
    best = None
    for chosen in permutations(range(columns), rows):
        mass = sum(values[i][chosen[i]] for i in range(rows))
        errors = 0
        for i in range(rows):
            for c in range(columns):
                wrong = values[i][c] < 1 - tolerance if chosen[i] == c else values[i][c] > tolerance
                errors += int(wrong)
        if best is None or (mass, -errors) > (best[0], -best[1]):
            best = (mass, errors)
    return best[1]


def dense_contradictions(table, n_dense, tolerance, min_entries=1):
    columns = sorted(table.T.tolist(), key=sum, reverse=True)
    errors = 0
    for rank, column in enumerate(columns):
        if rank < n_dense:
            errors += max(0, min_entries - sum(value >= 1 - tolerance for value in column))
        else:
            errors += sum(value > tolerance for value in column)
    return errors


# ---- schedules and the adversary


def lr_factor(step, total, schedule, warmup_fraction=0.0):
    warmup = int(total * warmup_fraction)
    if step < warmup:
        return step / warmup
    t, T = step - warmup, total - warmup
    if schedule == "quarter_cosine":
        return math.cos(math.pi / 2 * t / (T - 1))
    if schedule == "half_cosine":
        return 0.5 * (1 + math.cos(math.pi * t / (T - 1)))
    return 1.0


def sign_ascent(objective, source, steps, step_size):
    """Move every coordinate by one step in the direction that raises the objective, then clamp to [0, 1]."""
    for _ in range(steps):
        source = source.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(source), source)
        moved = []
        for value, slope in zip(source.flatten().tolist(), gradient.flatten().tolist(), strict=True):
            direction = (slope > 0) - (slope < 0)
            moved.append(min(max(value + step_size * direction, 0.0), 1.0))
        source = torch.tensor(moved, dtype=source.dtype).reshape(source.shape)
    return source


def adam_push(source, gradient, first, second, pushes, lr, beta1=0.5, beta2=0.99, eps=1e-8):
    """One ascent of Adam on a list of sources, number by number, clamped to [0, 1]; returns all three lists."""
    moved, means, squares = [], [], []
    for value, slope, m, v in zip(source, gradient, first, second, strict=True):
        m = beta1 * m + (1 - beta1) * slope
        v = beta2 * v + (1 - beta2) * slope**2
        unbiased = m / (1 - beta1 ** (pushes + 1)), v / (1 - beta2 ** (pushes + 1))
        moved.append(min(max(value + lr * unbiased[0] / (math.sqrt(unbiased[1]) + eps), 0.0), 1.0))
        means.append(m)
        squares.append(v)
    return moved, means, squares


# ---- the smooth count of components, and relative faithfulness


def smooth_importance(uppers, gamma):
    """Sum over sites and components of g^2 / (g^2 + gamma^2), mean over examples; [N, C] per site."""
    examples = len(uppers[0])
    return sum(g**2 / (g**2 + gamma**2) for upper_ci in uppers for row in upper_ci for g in row) / examples


def smooth_frequency(uppers, gamma, reference):
    """Sum over sites and components of f log2(1 + reference f), f the mean of the smooth count."""
    total = 0.0
    for upper_ci in uppers:
        for c in range(upper_ci.shape[1]):
            f = sum(row[c] ** 2 / (row[c] ** 2 + gamma**2) for row in upper_ci) / len(upper_ci)
            total = total + f * torch.log(1 + reference * f) / math.log(2)
    return total


def relative_faithfulness(sites):
    """Mean over sites of the squared rest over the squared weight, entry by entry."""
    shares = []
    for W, V, U in sites:
        rest, whole = 0.0, 0.0
        for i in range(W.shape[0]):
            for j in range(W.shape[1]):
                approximation = sum(U[c, i] * V[j, c] for c in range(V.shape[1]))
                rest, whole = rest + (W[i, j] - approximation) ** 2, whole + W[i, j] ** 2
        shares.append(rest / whole)
    return sum(shares) / len(shares)


def constrained_price(steps, price, tolerances, allowances, rate, knee, loosest, ceilings=None):
    """The price after each step; per step its errors (``None`` for none yet), its penalty and its tolerance.

    ``ceilings``: per step ``None``, or the cliff and the error at which it levels off.
    """
    prices, means = [], [None] * len(allowances)
    ceilings = [None] * len(steps) if ceilings is None else ceilings
    for (errors, penalty), tolerance, ceiling in zip(steps, tolerances, ceilings, strict=True):
        for index, error in enumerate(errors):
            if error is not None:
                means[index] = error if means[index] is None else 0.95 * means[index] + 0.05 * error
        present = [index for index, error in enumerate(errors) if error is not None]
        mean = max(means[index] / allowances[index] for index in present)
        distance = math.log(tolerance) - math.log(mean)
        price = price * math.exp(rate * max(-1, min(1, distance)))
        if mean < loosest:
            price = max(price, knee * mean / penalty)
        if ceiling is not None:
            cliff, least = ceiling
            price = min(price, cliff * (mean if mean > least else least) / penalty)
        prices.append(price)
    return prices
