"""The network of `tiny`: a ViT over the patches of a grey image that hold the subject."""

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor, nn

IMAGE_SIZE = 112
PATCH_SIZE = 8
CHANNELS = 144
DEPTH = 5
NUM_HEADS = 4
MLP_RATIO = 3


class TinyViT(nn.Module):
    """A ViT over the patches of a grey image that hold the subject; empty ones are neither attended to nor counted.

    Positions are fixed sines and cosines, so that an untrained model knows where a patch is, and nothing else.
    """

    positions: Float32[Tensor, "patch channel"]

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(PATCH_SIZE**2, CHANNELS)
        self.register_buffer("positions", sine_cosine_positions(IMAGE_SIZE // PATCH_SIZE, CHANNELS), persistent=False)
        layer = nn.TransformerEncoderLayer(
            CHANNELS, NUM_HEADS, MLP_RATIO * CHANNELS, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, DEPTH, nn.LayerNorm(CHANNELS), enable_nested_tensor=False)

    def forward(
        self, patches: Float[Tensor, "image token pixel"], places: Int64[Tensor, "image token"], empty: Bool[Tensor, "image token"]
    ) -> Float[Tensor, "image token channel"]:
        """Tokens of some patches of each image; `places` counts patches row by row. Tokens of empty patches mean nothing."""
        tokens = self.embed(patches) + self.positions[places]
        encoded: Tensor = self.encoder(tokens, src_key_padding_mask=empty)
        return encoded


def cut_patches(images: Float[Tensor, "image height width"]) -> Float[Tensor, "image patch pixel"]:
    """Pixels of the patches of square images, patches row by row."""
    side = images.shape[1] // PATCH_SIZE
    cut: Tensor = images.unflatten(2, (side, PATCH_SIZE)).unflatten(1, (side, PATCH_SIZE)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
    return cut


def subject_patches(
    images: Float[Tensor, "image height width"], capacity: int
) -> tuple[Float[Tensor, "image token pixel"], Int64[Tensor, "image token"], Bool[Tensor, "image token"]]:
    """The first `capacity` patches of each image, those that hold the subject before empty ones; their places; which are empty."""
    patches = cut_patches(images)
    empty = (patches == 0).all(dim=-1)
    order = empty.to(torch.uint8).argsort(dim=1, stable=True)[:, :capacity]
    return patches.gather(1, order.unsqueeze(-1).expand(-1, -1, patches.shape[-1])), order, empty.gather(1, order)


def sine_cosine_positions(side: int, channels: int) -> Float32[Tensor, "patch channel"]:
    """Fixed embeddings of the patches of a grid: half of the channels for the row, half for the column."""
    frequencies = 1 / 10_000 ** (torch.arange(channels // 4) / (channels // 4))
    angles = torch.arange(side)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.cat([axis.repeat_interleave(side, dim=0), axis.repeat(side, 1)], dim=1)
