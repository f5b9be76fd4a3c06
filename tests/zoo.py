"""A zoo of small architectures with random weights, written the way timm and transformers write them.

Each entry of `ZOO` builds `(model in eval mode, example args, dynamic shapes or None)` from a fixed seed, so
that two calls give the same weights. Batch-norm statistics and affine parameters, layer scales and biases
are random too: a rewrite that drops one of them changes the outputs visibly.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

Entry = tuple[nn.Module, tuple[Any, ...], Any]


def _randomise(model: nn.Module) -> None:
    """Give what initialises to constants (biases, normalisations, layer scales) values of its own."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.2)


# ---------------------------------------------------------------- ResNet (He et al., 2015)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm around a shortcut."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample: nn.Module | None = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


class ResNet(nn.Module):
    """Stem, two stages of basic blocks, global average pool, classifier."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16))
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.maxpool(self.act1(self.bn1(self.conv1(image))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.global_pool(x), 1))


# ---------------------------------------------------------------- MobileNetV2 (Sandler et al., 2018)


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution, linear pointwise projection."""

    def __init__(self, inp: int, oup: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inp * expand
        self.use_res_connect = stride == 1 and inp == oup
        layers: list[nn.Module] = []
        if expand != 1:
            layers += [nn.Conv2d(inp, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, oup, 1, bias=False),
            nn.BatchNorm2d(oup),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """Inverted residuals with relu6; the mean over pixels as global pool."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
            InvertedResidual(8, 8, 1, 1),
            InvertedResidual(8, 12, 2, 6),
            InvertedResidual(12, 12, 1, 6),
            nn.Sequential(nn.Conv2d(12, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6(inplace=True)),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, classes))

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.features(image).mean([2, 3]))


# ---------------------------------------------------------------- ConvNeXt (Liu et al., 2022)


class LayerNorm2d(nn.LayerNorm):
    """Layer norm over the channels of an NCHW tensor."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """7×7 depthwise convolution, then a channels-last MLP with layer scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(1e-6 * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        x = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        x = self.fc2(self.act(self.fc1(x)))
        x = x.mul(self.gamma).permute(0, 3, 1, 2)
        return x + shortcut


class ConvNeXt(nn.Module):
    """Patch stem, two stages with a downsampling between them, norm after the pool."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8, eps=1e-6))
        self.stages = nn.Sequential(
            ConvNeXtBlock(8),
            nn.Sequential(LayerNorm2d(8, eps=1e-6), nn.Conv2d(8, 16, 2, 2)),
            ConvNeXtBlock(16),
        )
        self.head_norm = LayerNorm2d(16, eps=1e-6)
        self.head = nn.Linear(16, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stages(self.stem(image))
        x = self.head_norm(x.mean((-2, -1), keepdim=True))
        return self.head(x.flatten(1))


# ---------------------------------------------------------------- ViT (Dosovitskiy et al., 2020)


class ViTAttention(nn.Module):
    """Self-attention with one projection for queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim = heads, dim // heads
        self.scale = self.head_dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = (q * self.scale) @ k.transpose(-2, -1)
        x = (attention.softmax(dim=-1) @ v).transpose(1, 2).reshape(batch, tokens, width)
        return self.proj(x)


class ViTBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = ViTAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.drop_path = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """Patch embedding, class token, learnt positions, two blocks."""

    def __init__(self, dim: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        self.pos_drop = nn.Dropout(0.1)
        self.blocks = nn.Sequential(*(ViTBlock(dim, 2) for _ in range(2)))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed(image).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = self.blocks(self.pos_drop(x + self.pos_embed))
        return self.head(self.norm(x)[:, 0])


# ---------------------------------------------------------------- BERT (Devlin et al., 2018)


class BertLayer(nn.Module):
    """Post-norm attention (`scaled_dot_product_attention`) and feed-forward."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.output = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=1e-12)
        self.intermediate = nn.Linear(hidden, 2 * hidden)
        self.dense = nn.Linear(2 * hidden, hidden)
        self.output_norm = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = nn.Dropout(0.1)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (self._split_heads(f(x)) for f in (self.query, self.key, self.value))
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        context = context.transpose(1, 2).reshape(x.shape)
        x = self.attention_norm(x + self.dropout(self.output(context)))
        return self.output_norm(x + self.dropout(self.dense(F.gelu(self.intermediate(x)))))


class Bert(nn.Module):
    """Word, position and type embeddings, encoder, tanh pooler; a dict as output."""

    def __init__(self, vocabulary: int = 40, hidden: int = 16, positions: int = 32) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, hidden, padding_idx=0)
        self.position_embeddings = nn.Embedding(positions, hidden)
        self.token_type_embeddings = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.dropout = nn.Dropout(0.1)
        self.layer = nn.ModuleList(BertLayer(hidden, 2) for _ in range(2))
        self.pooler = nn.Linear(hidden, hidden)
        self.register_buffer("position_ids", torch.arange(positions).unsqueeze(0), persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        length = input_ids.shape[1]
        x = self.word_embeddings(input_ids) + self.token_type_embeddings(torch.zeros_like(input_ids))
        x = self.dropout(self.norm(x + self.position_embeddings(self.position_ids[:, :length])))
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for layer in self.layer:
            x = layer(x, mask)
        return {"last_hidden_state": x, "pooler_output": torch.tanh(self.pooler(x[:, 0]))}


# ---------------------------------------------------------------- GPT-2 (Radford et al., 2019)


class Conv1D(nn.Module):
    """GPT-2's dense layer: the weight is stored inputs × outputs and applied with `addmm`."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf) * 0.2)
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        size_out = (*x.size()[:-1], self.nf)
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(size_out)


def gelu_new(x: Tensor) -> Tensor:
    """GELU's tanh approximation, written out."""
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


class GPT2Block(nn.Module):
    """Pre-norm causal attention with an explicit mask buffer, and MLP."""

    def __init__(self, dim: int, heads: int, positions: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.c_attn, self.c_proj = Conv1D(3 * dim, dim), Conv1D(dim, dim)
        self.c_fc, self.mlp_proj = Conv1D(4 * dim, dim), Conv1D(dim, 4 * dim)
        causal = torch.tril(torch.ones(positions, positions, dtype=torch.bool))
        self.register_buffer("bias", causal.view(1, 1, positions, positions), persistent=False)

    def _attend(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        q, k, v = (
            t.view(*t.shape[:2], self.heads, -1).transpose(1, 2)
            for t in self.c_attn(x).split(x.shape[-1], dim=2)
        )
        weights = torch.matmul(q, k.transpose(-1, -2)) / (v.size(-1) ** 0.5)
        hidden = torch.full([], torch.finfo(weights.dtype).min, dtype=weights.dtype)
        weights = torch.where(self.bias[:, :, :length, :length], weights, hidden)
        out = torch.matmul(F.softmax(weights, dim=-1), v)
        return self.c_proj(out.transpose(1, 2).contiguous().view(x.shape))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.ln_1(x))
        return x + self.mlp_proj(gelu_new(self.c_fc(self.ln_2(x))))


class GPT2(nn.Module):
    """Decoder whose head shares its weight with the word embedding."""

    def __init__(self, vocabulary: int = 40, dim: int = 16, positions: int = 32) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, dim)
        self.wpe = nn.Embedding(positions, dim)
        self.drop = nn.Dropout(0.1)
        self.h = nn.ModuleList(GPT2Block(dim, 2, positions) for _ in range(2))
        self.ln_f = nn.LayerNorm(dim)
        self.lm_head = nn.Linear(dim, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1]).unsqueeze(0)
        x = self.drop(self.wte(input_ids) + self.wpe(positions))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


# ---------------------------------------------------------------- LSTM


class LSTMClassifier(nn.Module):
    """Embedding, bidirectional LSTM, mean over time, classifier."""

    def __init__(self, vocabulary: int = 40, dim: int = 8, hidden: int = 12, classes: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        output, _ = self.lstm(self.embedding(tokens))
        return self.head(output.mean(dim=1))


# ---------------------------------------------------------------- GRU


class GRUTagger(nn.Module):
    """Embedding, two-layer GRU, a label for each token."""

    def __init__(self, vocabulary: int = 40, dim: int = 8, hidden: int = 12, labels: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dim)
        self.dropout = nn.Dropout(0.1)
        self.gru = nn.GRU(dim, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, labels)

    def forward(self, tokens: Tensor) -> Tensor:
        output, _ = self.gru(self.dropout(self.embedding(tokens)))
        return self.head(self.dropout(output))


# ---------------------------------------------------------------- DenseNet (Huang et al., 2016)


class DenseLayer(nn.Module):
    """Normalisation before each convolution; a 1×1 bottleneck, then 3×3."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = (
            nn.BatchNorm2d(2 * growth),
            nn.Conv2d(2 * growth, growth, 3, 1, 1, bias=False),
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x)))


class DenseNet(nn.Module):
    """A block in which each layer reads all before it, a transition, a classifier."""

    def __init__(self, growth: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(8)
        self.layers = nn.ModuleList(DenseLayer(8 + i * growth, growth) for i in range(3))
        self.norm1 = nn.BatchNorm2d(8 + 3 * growth)
        self.transition = nn.Conv2d(8 + 3 * growth, 10, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2)
        self.norm2 = nn.BatchNorm2d(10)
        self.classifier = nn.Linear(10, classes)

    def forward(self, image: Tensor) -> Tensor:
        features = [F.relu(self.norm0(self.conv0(image)))]
        for layer in self.layers:
            features.append(layer(features))
        x = self.pool(self.transition(F.relu(self.norm1(torch.cat(features, 1)))))
        x = F.adaptive_avg_pool2d(F.relu(self.norm2(x)), (1, 1))
        return self.classifier(torch.flatten(x, 1))


# ---------------------------------------------------------------- U-Net (Ronneberger et al., 2015)


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (inputs, outputs):
        layers += [nn.Conv2d(source, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """One level down and up again: transposed convolution, skip connection, a mask for each pixel."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.inc, self.down = _double_conv(3, width), _double_conv(width, 2 * width)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv = _double_conv(2 * width, width)
        self.outc = nn.Conv2d(width, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.inc(image)
        x = self.up(self.down(self.pool(skip)))
        return self.outc(self.conv(torch.cat([skip, x], dim=1)))


# ---------------------------------------------------------------- Swin (Liu et al., 2021)


class WindowAttention(nn.Module):
    """Attention inside windows of `window`² tokens, with a learnt bias for each relative position."""

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.bias_table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads) * 0.2)
        coords = torch.stack(
            torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        ).flatten(1)
        relative = coords[:, :, None] - coords[:, None, :] + window - 1
        self.register_buffer("bias_index", relative[0] * (2 * window - 1) + relative[1], persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        windows, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(windows, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attention = (q * self.scale) @ k.transpose(-2, -1)
        bias = (
            self.bias_table[self.bias_index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
        )
        attention = attention + bias.unsqueeze(0)
        if mask is not None:
            count = mask.shape[0]
            attention = attention.view(-1, count, self.heads, tokens, tokens)
            attention = (attention + mask.unsqueeze(1).unsqueeze(0)).view(-1, self.heads, tokens, tokens)
        x = (attention.softmax(dim=-1) @ v).transpose(1, 2).reshape(windows, tokens, dim)
        return self.proj(x)


class SwinBlock(nn.Module):
    """Window attention, shifted in every second block, and MLP, on a `size`² grid of tokens."""

    def __init__(self, dim: int, size: int, window: int, shift: int) -> None:
        super().__init__()
        self.size, self.window, self.shift = size, window, shift
        self.norm1, self.attn = nn.LayerNorm(dim), WindowAttention(dim, window, 2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        mask = None
        if shift:
            image = torch.zeros(1, size, size, 1)
            parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
            for number, (h, w) in enumerate((h, w) for h in parts for w in parts):
                image[:, h, w, :] = number
            windows = self._partition(image).squeeze(-1)
            mask = (windows.unsqueeze(1) - windows.unsqueeze(2)).ne(0).float() * -100.0
        self.register_buffer("attn_mask", mask, persistent=False)

    def _partition(self, x: Tensor) -> Tensor:
        count, dim = self.size // self.window, x.shape[-1]
        x = x.view(-1, count, self.window, count, self.window, dim)
        return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, self.window**2, dim)

    def _reverse(self, windows: Tensor) -> Tensor:
        count, dim = self.size // self.window, windows.shape[-1]
        x = windows.view(-1, count, count, self.window, self.window, dim)
        return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, self.size, self.size, dim)

    def forward(self, x: Tensor) -> Tensor:
        shortcut, shift = x, self.shift
        x = self.norm1(x)
        if shift:
            x = torch.roll(x, shifts=(-shift, -shift), dims=(1, 2))
        x = self._reverse(self.attn(self._partition(x), self.attn_mask))
        if shift:
            x = torch.roll(x, shifts=(shift, shift), dims=(1, 2))
        x = shortcut + x
        return x + self.mlp(self.norm2(x))


class Swin(nn.Module):
    """Patch embedding, a plain and a shifted block, patch merging, classifier; channels last."""

    def __init__(self, dim: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 2, 2)
        self.patch_norm = nn.LayerNorm(dim)
        self.blocks = nn.Sequential(SwinBlock(dim, 8, 4, 0), SwinBlock(dim, 8, 4, 2))
        self.merge_norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm, self.head = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.blocks(self.patch_norm(self.patch_embed(image).permute(0, 2, 3, 1)))
        corners = [x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        x = self.reduction(self.merge_norm(torch.cat(corners, -1)))
        return self.head(self.norm(x).mean(dim=(1, 2)))


# ---------------------------------------------------------------- T5 encoder (Raffel et al., 2019)


class T5LayerNorm(nn.Module):
    """Root mean square normalisation, written out."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-6))


class T5Block(nn.Module):
    """Unscaled attention without biases, and a gated feed-forward."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))
        self.wi_0, self.wi_1 = nn.Linear(dim, 2 * dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
        self.wo = nn.Linear(2 * dim, dim, bias=False)
        self.norm1, self.norm2 = T5LayerNorm(dim), T5LayerNorm(dim)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, self.heads, x.shape[-1] // self.heads).transpose(1, 2)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        h = self.norm1(x)
        q, k, v = self._heads(self.q(h)), self._heads(self.k(h)), self._heads(self.v(h))
        scores = torch.matmul(q, k.transpose(3, 2)) + bias
        weights = F.softmax(scores.float(), dim=-1).type_as(scores)
        out = torch.matmul(weights, v).transpose(1, 2).contiguous()
        x = x + self.o(out.view(out.shape[0], -1, x.shape[-1]))
        h = self.norm2(x)
        return x + self.wo(F.gelu(self.wi_0(h), approximate="tanh") * self.wi_1(h))


class T5Encoder(nn.Module):
    """Embedding, a bias from logarithmic buckets of relative positions shared by all blocks, final norm."""

    def __init__(self, vocabulary: int = 40, dim: int = 16, heads: int = 2, buckets: int = 8) -> None:
        super().__init__()
        self.buckets = buckets
        self.shared = nn.Embedding(vocabulary, dim)
        self.relative_attention_bias = nn.Embedding(buckets, heads)
        self.block = nn.ModuleList(T5Block(dim, heads) for _ in range(2))
        self.final_layer_norm = T5LayerNorm(dim)

    def _bucket(self, relative: Tensor) -> Tensor:
        half = self.buckets // 2
        offset = (relative > 0).to(torch.long) * half
        distance, exact = torch.abs(relative), half // 2
        large = exact + (torch.log(distance.float() / exact) / math.log(32 / exact) * (half - exact)).to(
            torch.long
        )
        large = torch.min(large, torch.full_like(large, half - 1))
        return offset + torch.where(distance < exact, distance, large)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        positions = torch.arange(input_ids.shape[1], dtype=torch.long)
        relative = positions[None, :] - positions[:, None]
        bias = self.relative_attention_bias(self._bucket(relative)).permute(2, 0, 1).unsqueeze(0)
        x = self.shared(input_ids)
        mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
        for block in self.block:
            x = block(x, bias + mask)
        return self.final_layer_norm(x)


# ---------------------------------------------------------------- the zoo


def _entry(
    model: Callable[[], nn.Module], inputs: Callable[[], tuple[Any, ...]], dynamic: Any = None
) -> Entry:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = model().eval()
        _randomise(built)
        return built, inputs(), dynamic


def _images() -> tuple[Tensor]:
    return (torch.randn(2, 3, 16, 16),)


def _batch(parameter: str) -> dict[str, Any]:
    return {parameter: {0: Dim("batch", min=1, max=64)}}


def _sequences(*parameters: str) -> dict[str, Any]:
    # One below the number of positions: torch specialises a slice that takes the whole buffer.
    batch, sequence = Dim("batch", min=1, max=64), Dim("sequence", min=2, max=31)
    return {parameter: {0: batch, 1: sequence} for parameter in parameters}


def _tokens() -> Tensor:
    return torch.randint(1, 40, (2, 7))


def _masked_tokens() -> tuple[Tensor, Tensor]:
    mask = torch.ones(2, 7, dtype=torch.int64)
    mask[1, 5:] = 0
    return _tokens(), mask


ZOO: dict[str, Callable[[], Entry]] = {
    "resnet": lambda: _entry(ResNet, _images, _batch("image")),
    "mobilenet": lambda: _entry(MobileNetV2, _images, _batch("image")),
    "convnext": lambda: _entry(ConvNeXt, _images, _batch("image")),
    "vit": lambda: _entry(ViT, _images, _batch("image")),
    "bert": lambda: _entry(Bert, _masked_tokens, _sequences("input_ids", "attention_mask")),
    "gpt2": lambda: _entry(GPT2, lambda: (_tokens(),), _sequences("input_ids")),
    "lstm": lambda: _entry(LSTMClassifier, lambda: (_tokens(),), _batch("tokens")),
    "gru": lambda: _entry(GRUTagger, lambda: (_tokens(),), _batch("tokens")),
    "densenet": lambda: _entry(DenseNet, _images, _batch("image")),
    "unet": lambda: _entry(UNet, _images, _batch("image")),
    "swin": lambda: _entry(Swin, _images, _batch("image")),
    "t5": lambda: _entry(T5Encoder, _masked_tokens, _sequences("input_ids", "attention_mask")),
}
"""Name → builder of (model, example args, dynamic shapes)."""


@functools.cache
def plain_export(name: str) -> onnx.ModelProto:
    """What torch's own exporter makes of an entry: the file that ours is held against."""
    model, args, dynamic = ZOO[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.onnx.export(model, args, dynamo=True, dynamic_shapes=dynamic, verbose=False).model_proto
