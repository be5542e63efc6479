from .codec import CodecTimes as CodecTimes
from .codec import time_codec as time_codec
from .cold_start import ColdStart as ColdStart
from .cold_start import start_cold as start_cold
from .frame import (
    FrameTimes as FrameTimes,
)
from .frame import (
    time_contexts as time_contexts,
)
from .frame import (
    time_frame as time_frame,
)
from .frame import (
    time_sessions as time_sessions,
)
from .latency import LatencyTimes as LatencyTimes
from .latency import measure_latency as measure_latency
from .machine import Machine as Machine
from .machine import this_machine as this_machine
from .original import OriginalTimes as OriginalTimes
from .original import time_original as time_original
from .plot import draw_times as draw_times
from .report import Report as Report
from .run import Wanted as Wanted
from .run import measure as measure
from .times import Times as Times
