from .codec import CodecTimes as CodecTimes
from .codec import time_codec as time_codec
from .cold_start import ColdStart as ColdStart
from .cold_start import measure_cold_start as measure_cold_start
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
from .plot import plot_times as plot_times
from .report import BenchmarkReport as BenchmarkReport
from .run import BenchmarkOptions as BenchmarkOptions
from .run import run_benchmark as run_benchmark
from .timing import Percentiles as Percentiles
