"""What a session is conditioned on where its user has not said: as the published programs do."""

from duplex.frame_model import Conditions, ModelSpec

__all__ = ["default_conditions"]

DEFAULTS = {"description": "very_good"}
"""Of a translation: how well the speaker's voice is kept."""
OPPOSITES = {"description": "very_bad"}
"""What guidance leads away from."""


def default_conditions(spec: ModelSpec) -> Conditions | None:
    """Return the conditions of a session, or ``None`` for a model without any."""
    words, opposites = (
        {name: word for name, word in known.items() if word in spec.conditions.get(name, ())}
        for known in (DEFAULTS, OPPOSITES)
    )
    return Conditions(words=words, null=Conditions(words=opposites)) if words else None
