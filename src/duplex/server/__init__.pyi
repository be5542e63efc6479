from .asgi import application as application
from .listening import Listening as Listening
from .listening import check_start as check_start
from .run import serve as serve
from .settings import Settings as Settings
