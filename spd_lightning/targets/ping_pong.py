"""Ping-pong superposition: circuits that share neurons with others, and share them otherwise in a second matrix."""

import torch
from torch import Tensor, nn

from spd_lightning.errors import UsageError, check_whole
from spd_lightning.targets.mechanisms import Mechanisms, Terms


class PingPong(nn.Module):
    r"""Circuits of rank one, written by hand into two matrices with fewer neurons than circuits (ours).

    Circuit :math:`i = k a + b`, with :math:`k` circuits a group, is used on input :math:`i` alone. ``ping`` sends it to
    the neurons of group :math:`a`, ``pong`` to those of group :math:`b`, and the circuit's output is the smaller of the
    two groups' activities:

    .. math:: y_i = \min(p_a \cdot \mathrm{relu}(W_{ping} x), q_b \cdot \mathrm{relu}(W_{pong} x)), \quad
        W_{ping} = \sum_i p_{a(i)} e_i^\top, \quad W_{pong} = \sum_i q_{b(i)} e_i^\top

    So every matrix has one term per circuit, and the circuits of a group write to the same neurons. One component for a
    whole group is important on as few inputs at a time as one for each circuit, so a penalty on importances alone
    cannot tell the two apart; one on how often a component is important can.

    Args:
        n_circuits: number of circuits, the square of ``group``, or fewer.
        group: circuits that share neurons, at least 2.
        width: neurons of each matrix, at least one for each group.

    Attributes:
        groups: patterns of neurons, ``[groups, width]``, rows of length 1 that have no neuron in common; a buffer.

    Raises:
        UsageError: for sizes that do not fit.
    """

    groups: Tensor

    def __init__(self, n_circuits: int = 64, group: int = 8, width: int = 21) -> None:
        super().__init__()
        check_whole("PingPong: n_circuits", n_circuits, least=1)
        check_whole("PingPong: group", group, least=2)
        check_whole("PingPong: width", width, least=1)
        if n_circuits > group**2:
            raise UsageError(
                f"PingPong: n_circuits must be at most group squared, {group**2}, got {n_circuits}: more share both of "
                "their groups; raise group"
            )
        if width < group:
            raise UsageError(f"PingPong: width must be at least group, {group}, got {width}; raise it")
        self.n_circuits, self.group, self.width = n_circuits, group, width
        self.ping = nn.Linear(n_circuits, width, bias=False)
        self.pong = nn.Linear(n_circuits, width, bias=False)
        self.register_buffer("groups", _patterns(group, width))
        circuits = torch.arange(n_circuits)
        self.members = {"ping": circuits // group, "pong": circuits % group}
        self.reset_parameters()

    @property
    def n_features(self) -> int:
        """Width of an input: one number for each circuit."""
        return self.n_circuits

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Write the circuits down."""
        for name, group in self.members.items():
            getattr(self, name).weight.copy_(self.groups[group].T)

    def forward(self, x: Tensor) -> Tensor:
        """How strongly each circuit answers.

        Args:
            x: ``[..., n_circuits]``.

        Returns:
            ``[..., n_circuits]``.
        """
        ping, pong = (getattr(self, name)(x).relu() @ self.groups.T for name in self.members)
        return torch.minimum(ping[..., self.members["ping"]], pong[..., self.members["pong"]])

    def known_mechanisms(self) -> dict[str, Mechanisms]:
        """A term per circuit in both matrices, needed on the circuit's own input."""
        circuits = list(range(self.n_circuits))
        own = torch.eye(self.n_circuits)
        return {
            name: Mechanisms(
                "terms",
                self.n_circuits,
                circuits,
                terms=Terms(own, self.groups[group].cpu(), own.bool(), circuits),
            )
            for name, group in self.members.items()
        }


def _patterns(groups: int, width: int) -> Tensor:
    """Neurons shared out among groups as evenly as may be, ``[groups, width]``, rows of length 1."""
    owner = torch.arange(width) % groups
    patterns = torch.nn.functional.one_hot(owner, groups).T.float()
    return patterns / patterns.sum(1, keepdim=True).sqrt()
