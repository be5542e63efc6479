"""What a machine makes of a model: times by stage, memory, sessions in real time, latency, and the original beside it.

``duplex bench`` prints it.
"""

from duplex.bench.codec import CodecTimes, time_codec
from duplex.bench.cold_start import ColdStart, start_cold
from duplex.bench.frame import FrameTimes, time_contexts, time_frame, time_sessions
from duplex.bench.latency import LatencyTimes, measure_latency
from duplex.bench.machine import Machine, this_machine
from duplex.bench.original import OriginalTimes, time_original
from duplex.bench.plot import draw_times
from duplex.bench.report import Report
from duplex.bench.run import Wanted, measure
from duplex.bench.times import Times

__all__ = [
    "CodecTimes",
    "ColdStart",
    "FrameTimes",
    "LatencyTimes",
    "Machine",
    "OriginalTimes",
    "Report",
    "Times",
    "Wanted",
    "draw_times",
    "measure",
    "measure_latency",
    "start_cold",
    "this_machine",
    "time_codec",
    "time_contexts",
    "time_frame",
    "time_original",
    "time_sessions",
]
