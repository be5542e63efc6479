from .codec.decoder_loop import train_decoder as train_decoder
from .codec.decoder_settings import DecoderSettings as DecoderSettings
from .codec.loop import train_codec as train_codec
from .codec.settings import TINY_CODEC as TINY_CODEC
from .codec.settings import CodecSettings as CodecSettings
from .trainer import TrainingProgress as TrainingProgress
