"""Layer-wise learning rates: what is close to the pixels learns more slowly."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ..errors import ConfigError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ViTLayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Multiply the learning rate of layer i of L by ``layer_decay_rate ** (L - 1 - i)``.

    The backbone says how deep each of its parameters is, ``backbone.get_layer_depth(name)``;
    neck and heads keep the full rate (arXiv:2106.08254, section 3.2). Everything else that
    mmengine's constructor offers in ``paramwise_cfg`` (``norm_decay_mult``, ``custom_keys``, ...)
    works beside it.

    Args:
        optim_wrapper_cfg: As in mmengine.
        paramwise_cfg: As in mmengine, and ``layer_decay_rate``, over 0 and at most 1.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise ConfigError(
                f'layer_decay_rate={rate} must be over 0 and at most 1; set it in '
                'optim_wrapper.paramwise_cfg, for example to 0.75.'
            )
        self.layer_decay_rate = float(rate)

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the parameters of ``module``, those with equal settings in one group.

        Raises:
            ConfigError: If the backbone cannot tell the depth of its parameters.
        """
        if prefix:  # the parent class recurses; rates are scaled once, at the top
            super().add_params(params, module, prefix, is_dcn_module)
            return
        single: list[dict] = []
        super().add_params(single, module, prefix, is_dcn_module)
        backbone = getattr(module, 'backbone', None)
        if not hasattr(backbone, 'get_layer_depth'):
            raise ConfigError(
                f'{type(backbone).__name__} has no get_layer_depth(name), so its layers cannot be '
                'told apart; use PrithviViT, or drop constructor= from optim_wrapper.'
            )
        names = {id(param): name for name, param in module.named_parameters()}
        groups: dict[tuple, dict] = {}
        for group in single:
            (param,) = group.pop('params')
            name = names[id(param)]
            group.setdefault('lr', self.base_lr)
            if name.startswith('backbone.'):
                layer, layers = backbone.get_layer_depth(name, 'backbone.')
                group['lr'] *= self.layer_decay_rate ** (layers - 1 - layer)
            key = tuple(sorted(group.items()))
            groups.setdefault(key, {**group, 'params': []})['params'].append(param)
        params.extend(groups.values())
