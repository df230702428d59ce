"""Networks of the tasks, initialised from a generator of their own and fit for `torch.vmap`."""

from rlsched.envs.tasks.models.cnn import check_groups, image_cnn, signal_cnn
from rlsched.envs.tasks.models.gru import CharacterGRU
from rlsched.envs.tasks.models.mlp import ACTIVATIONS, mlp
from rlsched.envs.tasks.models.square import square_network
from rlsched.envs.tasks.models.transformer import CharacterTransformer

__all__ = [
    "ACTIVATIONS",
    "CharacterGRU",
    "CharacterTransformer",
    "check_groups",
    "image_cnn",
    "mlp",
    "signal_cnn",
    "square_network",
]
