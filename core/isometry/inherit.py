"""Fine-tuning: a run that begins with what another one learnt, as far as the two networks agree."""

from __future__ import annotations

from torch import nn

from isometry.app import App
from isometry.calibrate import Temperature
from isometry.loaded import find_checkpoint

N_NAMED = 4


def inherit(app: App, start: str, model: nn.Module) -> str:
    """Fill `model` with the weights of a run, checkpoint or shipped checkpoint; returns what was done, in one line.

    Weights are taken by name where the shapes agree; the others keep their fresh values, and temperatures stay 1.

    Raises:
        FileNotFoundError, ValueError: as `find_checkpoint`; and if not a single trainable weight fits.
    """
    checkpoint, own = find_checkpoint(app, start), model.state_dict()
    cold = {f"{name}.temperature" for name, module in model.named_modules() if isinstance(module, Temperature)}
    known = {name: value for name, value in checkpoint.weights().items() if name in own and name not in cold}
    taken = {name: value for name, value in known.items() if value.shape == own[name].shape}
    if not taken.keys() & dict(model.named_parameters()).keys():
        raise ValueError(
            f"start {start}: none of its {len(checkpoint.weights())} tensors fits this model by name and shape; "
            "give the model's settings with which it was trained"
        )
    model.load_state_dict(taken, strict=False)
    fresh = [name for name in own if name not in taken and name not in cold]
    named = ", ".join(fresh[:N_NAMED]) + (f" and {len(fresh) - N_NAMED} more" if len(fresh) > N_NAMED else "")
    begun = f"the weights begin as those of {start}, step {checkpoint.step}"
    return f"{begun}; anew: {named}" if fresh else begun
