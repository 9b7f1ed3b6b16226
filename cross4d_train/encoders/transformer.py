"""The transformer block that encoders and predictors are made of."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """A pre-norm transformer block with full attention over the tokens of a clip.

    Heads of `head_channels` channels share the width unless that is given. P4Transformer's blocks have no bias before attention and a
    GELU after it.
    """

    def __init__(
        self, width: int, num_heads: int, mlp_width: int, *, head_channels: int | None = None, bias: bool = True, gelu: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        mixed_width = width if head_channels is None else num_heads * head_channels
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * mixed_width, bias=bias)
        self.attention_out = nn.Linear(mixed_width, width)
        self.attention_activation = nn.GELU() if gelu else nn.Identity()
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))

    def forward(self, tokens: Float[Tensor, "batch token channel"]) -> Float[Tensor, "batch token channel"]:
        """Mix the tokens of each clip."""
        split = self.query_key_value(self.attention_norm(tokens)).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attention_activation(self.attention_out(mixed.transpose(1, 2).flatten(2)))
        mixed_channels: Tensor = tokens + self.mlp(self.mlp_norm(tokens))
        return mixed_channels
