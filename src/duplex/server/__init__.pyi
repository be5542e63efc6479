from .asgi import application as application
from .run import Listening as Listening
from .run import serve as serve
from .settings import Settings as Settings
