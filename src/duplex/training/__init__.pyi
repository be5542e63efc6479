from .codec.adversarial_loop import train_decoder as train_decoder
from .codec.adversarial_settings import AdversarialSettings as AdversarialSettings
from .codec.loop import train_codec as train_codec
from .codec.settings import TINY_CODEC as TINY_CODEC
from .codec.settings import CodecSettings as CodecSettings
from .trainer import TrainingProgress as TrainingProgress
