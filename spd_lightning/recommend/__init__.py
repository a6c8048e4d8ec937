"""What to take a network apart with: components, batch, steps and objective, each with its ground."""

from spd_lightning.recommend.proposals import Proposal, Recommendation
from spd_lightning.recommend.recommending import recommend
from spd_lightning.recommend.rules import components_for

__all__ = ["Proposal", "Recommendation", "components_for", "recommend"]
