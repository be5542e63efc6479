from .assignment import Loading as Loading
from .assignment import ModelLoading as ModelLoading
from .run import Replicas as Replicas
from .run import serve_on_cluster as serve_on_cluster
