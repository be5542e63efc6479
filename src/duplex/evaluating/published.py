"""The published figures of Full-Duplex-Bench v1.0, with words by speech recognition, to stand beside a result."""

__all__ = ["PUBLISHED"]

_COLUMNS = (
    "pause_handling_synthetic_take_over",
    "pause_handling_candor_take_over",
    "backchannel_take_over",
    "backchannel_frequency",
    "backchannel_jsd",
    "smooth_turn_taking_take_over",
    "smooth_turn_taking_latency",
    "user_interruption_take_over",
    "user_interruption_gpt",
    "user_interruption_latency",
)
_ROWS = {
    "PersonaPlex": (0.584, 0.662, 0.327, 0.025, 0.649, 0.992, 0.070, 1.000, 4.210, 0.400),
    "dGSLM": (0.934, 0.935, 0.691, 0.015, 0.934, 0.975, 0.352, 0.917, 0.201, 2.531),
    "Moshi": (0.985, 0.980, 1.000, 0.001, 0.957, 0.941, 0.265, 1.000, 0.765, 0.257),
    "Freeze-Omni": (0.642, 0.481, 0.636, 0.001, 0.997, 0.336, 0.953, 0.867, 3.615, 1.409),
    "Gemini Live 2.0": (0.255, 0.310, 0.091, 0.012, 0.896, 0.655, 1.301, 0.891, 3.376, 1.183),
    "GPT-Realtime": (0.010, 0.120, 0.000, 0.007, 0.980, 1.000, 1.470, 0.970, 3.850, 1.500),
}
PUBLISHED = {model: dict(zip(_COLUMNS, row, strict=True)) for model, row in _ROWS.items()}
