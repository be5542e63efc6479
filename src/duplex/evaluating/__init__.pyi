from .layout import Sample as Sample
from .layout import find_samples as find_samples
from .run import evaluate as evaluate
from .run import read_distribution as read_distribution
