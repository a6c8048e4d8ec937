"""Networks that cannot be taken apart as they are, each in its own way, and what must be said of it."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.checkpoint import checkpoint

WIDTH = 6


class _Two(nn.Module):
    """Two layers; subclasses misbehave between them."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        return self.second(self.between(self.first(x).tanh()))

    def between(self, h):
        return h


class DrawsAtRandom(_Two):
    def between(self, h):
        return F.dropout(h, 0.5, training=True)


class AddsNoise(_Two):
    def between(self, h):
        return h + 0.1 * torch.randn_like(h)


class Counts(_Two):
    """Scales its output by the number of passes."""

    passes = 0

    def between(self, h):
        self.passes += 1
        return h * self.passes


class RunningMean(_Two):
    """Normalises by statistics that every pass updates."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def between(self, h):
        return F.batch_norm(h, self.norm.running_mean, self.norm.running_var, training=True)


class RemembersOutput(_Two):
    """Returns what it returned before for the same batch."""

    memory = None

    def forward(self, x):
        if self.memory is None:
            self.memory = super().forward(x)
        return self.memory


class WritesIntoItsInput(_Two):
    def forward(self, x):
        return super().forward(x.mul_(2))


class WritesIntoItsInputUnseen(_Two):
    """Through a numpy view, which no version counter sees."""

    def forward(self, x):
        x.numpy()[:] = x.numpy() * 0.5
        return super().forward(x)


class RewritesItsWeights(_Two):
    def forward(self, x):
        self.first.weight.data = F.normalize(self.first.weight.data + 0.01, dim=1)
        return super().forward(x)


class BypassesItsModule(_Two):
    def between(self, h):
        return F.linear(h, self.first.weight) + h


class NeverCallsItsModule(_Two):
    def forward(self, x):
        return self.second(F.linear(x, self.first.weight, self.first.bias))


class WithoutGradient(_Two):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


class Detaches(_Two):
    """Gradients reach the second layer alone."""

    def between(self, h):
        return h.detach()


class ThroughNumpy(_Two):
    def between(self, h):
        return torch.from_numpy(h.numpy() + 1)


class Recomputes(_Two):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


class SavesWhatItOverwrites(_Two):
    """Overwrites what the tanh needs for its gradient."""

    def between(self, h):
        return h.add_(1)


class OtherWithGradient(_Two):
    """Is another function where gradients are wanted."""

    def between(self, h):
        return h * 2 if torch.is_grad_enabled() and h.requires_grad else h


class GivesIntegers(_Two):
    def forward(self, x):
        return super().forward(x).argmax(-1)


class GivesTuple(_Two):
    def forward(self, x):
        return super().forward(x), x


class GivesNaN(_Two):
    def between(self, h):
        return h.log()


class CallsWithTwo(_Two):
    """Calls a layer with something beside its input."""

    def __init__(self):
        super().__init__()
        inner = self.first

        class Taking(nn.Linear):
            def forward(self, x, scale=None):
                return super().forward(x)

        self.first = Taking(WIDTH, WIDTH)
        self.first.load_state_dict(inner.state_dict())
        Taking.forward = nn.Linear.forward

    def forward(self, x):
        return self.second(self.first(x, None))


class ChangingCalls(_Two):
    """Calls a layer once more in every other pass."""

    passes = 0

    def between(self, h):
        self.passes += 1
        return self.first(h) if self.passes % 2 else h


class SwallowsRows(_Two):
    """Keeps only the rows whose sum is positive, so that weights of rows fit nothing."""

    def between(self, h):
        return h[:1]


MISBEHAVING = {
    DrawsAtRandom: r"draws at random in eval mode.*switch dropout",
    AddsNoise: r"draws at random",
    Counts: r"keeps state from one pass to the next.*reset it",
    RunningMean: r"changes its own 'norm\.running_mean'",
    RemembersOutput: r"with everything on|carries no gradient|never calls",
    WritesIntoItsInput: r"writes into its input.*x\.clone",
    WritesIntoItsInputUnseen: r"writes into its input",
    RewritesItsWeights: r"changes its own 'first\.weight'",
    BypassesItsModule: r"uses the weight of 'first' without calling it",
    NeverCallsItsModule: r"never calls 'first'",
    WithoutGradient: r"carries no gradient to any component; remove no_grad",
    Detaches: r"no gradient reaches 'first'",
    ThroughNumpy: r"on masked components its forward fails.*numpy",
    Recomputes: r"'(first|second)' is called again for the gradients; switch gradient checkpointing off",
    SavesWhatItOverwrites: r"gradients cannot pass.*let it write to copies",
    OtherWithGradient: r"the output is not the target's \(plain form\)",
    GivesIntegers: r"output must be floating-point numbers, got torch\.int64",
    GivesTuple: r"output must be one tensor, got a tuple of 2; choose one with model\.call",
    GivesNaN: r"output holds NaN on the first batch",
    CallsWithTwo: r"calls 'first' with 2 arguments",
    ChangingCalls: r"keeps state|never calls",
}
