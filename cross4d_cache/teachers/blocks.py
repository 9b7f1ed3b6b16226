"""Taking features from an earlier block of a transformer than its last."""

import torch

from cross4d_cache.errors import TeacherError


def truncate(model: torch.nn.Module, depth: int, layer: int | None) -> int:
    """Cut a model of `depth` blocks off after block `layer`, counted from 1; None keeps all. Returns how many are left.

    The final norm stays, so features are those of the block after that norm, as DINOv2's `get_intermediate_layers(norm=True)` gives
    them.

    Raises:
        TeacherError: it has no such block, or its blocks cannot be told.
    """
    if layer is None:
        return depth
    if getattr(getattr(model, "config", None), "depths", None) is not None:
        raise TeacherError(
            f"layer {layer} of {type(model).__name__}, a pyramid whose stages have grids and channels of their own",
            expected="a model whose blocks are all alike",
            hint="leave out `teacher.layer`",
        )
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList) and len(module) == depth]
    if len(lists) != 1:
        raise TeacherError(
            f"the blocks of {type(model).__name__} cannot be told",
            expected="one list of all its layers",
            hint="leave out `teacher.layer`",
        )
    if not 1 <= layer <= depth:
        raise TeacherError(f"layer {layer} of a model of {depth} blocks", expected=f"1 to {depth}", hint="pass another `teacher.layer`")
    del lists[0][layer:]
    return layer
