from .codec.loop import train_codec as train_codec
from .codec.settings import TINY as TINY
from .codec.settings import CodecSettings as CodecSettings
from .trainer import Report as Report
