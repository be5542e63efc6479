from .measuring import MeasureJob as MeasureJob
from .processing import ProcessJob as ProcessJob
from .rows import Row as Row
from .run import BatchProgress as BatchProgress
from .run import BatchResult as BatchResult
from .run import Cluster as Cluster
from .run import run as run
from .scoring import ScoreJob as ScoreJob
