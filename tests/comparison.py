import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def assert_same_with_gradients(actual, expected, leaves, tolerance=1e-9):
    """Two computations agree in value, and in gradient to every leaf under a random incoming gradient."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    leaves, incoming = list(leaves), torch.randn_like(actual)
    found, wanted = (
        torch.autograd.grad(value, leaves, incoming, materialize_grads=True, allow_unused=True)
        for value in (actual, expected)
    )
    assert any(gradient.abs().max() > 0 for gradient in wanted), "no gradient to compare"
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def scalars(run):
    """Every point of every scalar that TensorBoard shows of a run directory, by step."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    # sorted: files of one second are read in the order of their numbers as text, the tenth before the ninth
    return {tag: sorted((e.step, e.value) for e in events.Scalars(tag)) for tag in events.Tags()["scalars"]}
