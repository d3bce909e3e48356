"""Plain torch modules among the tiny architectures, each after a family that is in wide use."""

# torch is only partly annotated.
# pyright: reportUnknownMemberType=false

import torch
from torch import nn
from torch.nn import functional


class Tagger(nn.Module):
    """Embedded tokens through a bidirectional GRU of two layers; one label per token."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.table = nn.Embedding(99, 12)
        self.gru = nn.GRU(12, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(32, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """``[B, S]`` to ``[B, S, 5]``."""
        return self.out(self.gru(self.table(tokens))[0])


class Vocoder(nn.Module):
    """Transposed convolutions with dilated residual blocks between them, as in HiFi-GAN."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.first = nn.Conv1d(8, 16, 7, padding=3)
        self.up = nn.ModuleList(
            nn.ConvTranspose1d(16 // 2**i, 8 // 2**i, 8, stride=4, padding=2) for i in range(2)
        )
        self.mix = nn.ModuleList(
            nn.Conv1d(8 // 2**i, 8 // 2**i, 3, dilation=3, padding=3) for i in range(2)
        )
        self.last = nn.Conv1d(4, 1, 7, padding=3)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """``[B, 8, L]`` to ``[B, 1, 16 L]``."""
        x = self.first(spectrogram)
        for up, mix in zip(self.up, self.mix, strict=True):
            x = up(functional.leaky_relu(x, 0.1))
            x = x + mix(functional.leaky_relu(x, 0.1))
        return torch.tanh(self.last(functional.leaky_relu(x)))


class Denoiser(nn.Module):
    """A step of a latent diffusion model: time, self-attention over pixels, cross-attention."""

    def __init__(self, channels: int = 16) -> None:
        """Build the layers."""
        super().__init__()
        self.first = nn.Conv2d(4, channels, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(channels, 32), nn.SiLU(), nn.Linear(32, channels))
        self.norm = nn.GroupNorm(4, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.cross = nn.MultiheadAttention(channels, 4, kdim=8, vdim=8, batch_first=True)
        self.down = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.last = nn.Conv2d(2 * channels, 4, 3, padding=1)

    def forward(
        self, latents: torch.Tensor, time: torch.Tensor, context: torch.Tensor
    ) -> torch.Tensor:
        """``[B, 4, H, W]``, ``[B]`` and ``[B, R, 8]`` to ``[B, 4, H, W]``."""
        angles = time[:, None] * torch.exp(-torch.arange(8) * 0.5)
        embedded = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        x = self.first(latents) + embedded[:, :, None, None]
        batch, channels, height, width = x.shape
        heads = self.qkv(self.norm(x)).reshape(batch, 3, 4, channels // 4, height * width)
        q, k, v = heads.transpose(-1, -2).unbind(1)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + mixed.transpose(-1, -2).reshape(x.shape)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.cross(tokens, context, context, need_weights=False)[0]
        x = tokens.transpose(1, 2).reshape(x.shape)
        coarse = functional.interpolate(self.down(x), scale_factor=2, mode="nearest")
        return self.last(functional.silu(torch.cat([x, coarse], 1)))


class Detector(nn.Module):
    """Pooled pyramid, upsampling, and boxes decoded on a grid, as in YOLOv5."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.stem, self.deep = _block(3, 8), _block(8, 16)
        self.join, self.head = _block(48, 8, stride=1), nn.Conv2d(16, 21, 1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """``[B, 3, H, W]`` to boxes ``[B, 3 * H / 2 * W / 2, 7]``."""
        fine = self.stem(pixel_values)
        coarse = self.deep(fine)
        once = functional.max_pool2d(coarse, 5, 1, 2)
        twice = functional.max_pool2d(once, 5, 1, 2)
        joined = self.join(torch.cat([coarse, once, twice], 1))
        up = functional.interpolate(joined, scale_factor=2.0, mode="nearest")
        return _decoded(self.head(torch.cat([up, fine], 1)), stride=2)


def _block(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.SiLU())


def _decoded(scores: torch.Tensor, stride: int) -> torch.Tensor:
    batch, _, height, width = scores.shape
    boxes = scores.view(batch, 3, 7, height, width).permute(0, 1, 3, 4, 2).sigmoid()
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place, size, rest = boxes[..., :2], boxes[..., 2:4], boxes[..., 4:]
    place = (place * 2 - 0.5 + torch.stack((columns, rows), 2)) * stride
    return torch.cat((place, (size * 2) ** 2 * stride, rest), 4).view(batch, -1, 7)


class MessagePassing(nn.Module):
    """Sums and maxima over the edges of a graph."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.embed, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, features: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """``[V, 6]`` and ``[2, E]`` to ``[V, 3]``."""
        x = torch.relu(self.embed(features))
        sums = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
        messages = sums[edges[0]]
        places = edges[1][:, None].expand_as(messages)
        most = torch.zeros_like(x).scatter_reduce(0, places, messages, "amax", include_self=False)
        return self.out(most).log_softmax(-1)


class Recommender(nn.Module):
    """Embedded choices, and the products of every pair of them, as in DLRM."""

    def __init__(self) -> None:
        """Build the layers."""
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(20, 8) for _ in range(3))
        self.dense, self.out = nn.Linear(5, 8), nn.Linear(14, 1)

    def forward(self, numbers: torch.Tensor, choices: torch.Tensor) -> torch.Tensor:
        """``[B, 5]`` and ``[B, 3]`` to ``[B, 1]``."""
        dense = torch.relu(self.dense(numbers))
        chosen = [table(choices[:, i]) for i, table in enumerate(self.tables)]
        vectors = torch.stack([dense, *chosen], 1)
        products = vectors @ vectors.transpose(1, 2)
        row, column = torch.tril_indices(4, 4, -1)
        return torch.sigmoid(self.out(torch.cat([dense, products[:, row, column]], 1)))
