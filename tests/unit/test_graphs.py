"""How images are put into graphs of fixed sizes, and that one compiled block serves them all."""

from __future__ import annotations

import torch

from d3.adapters.torch.graphs import compiled_blocks, sizes_up_to, split
from d3.domain.models import EncoderSpec
from d3.network import D3Network, DiscrepancyHead, Encoder, draw_permutations

SIZES = sizes_up_to(1000)


def test_sizes_are_powers_of_two_up_to_the_batch() -> None:
    assert sizes_up_to(1) == [1]
    assert sizes_up_to(12) == [1, 2, 4, 8]
    assert SIZES == [1, 2, 4, 8, 16, 32]


def test_all_images_are_scored_once() -> None:
    for images in range(1, 140):
        pieces = split(images, SIZES)
        assert sum(inside for _, inside in pieces) == images
        assert all(0 < inside <= size for size, inside in pieces)


def test_a_graph_far_from_full_is_cut_into_two() -> None:
    assert split(17, SIZES) == [(16, 16), (1, 1)]
    assert split(31, SIZES) == [(32, 31)]
    assert split(5, SIZES) == [(8, 5)]
    assert split(64, SIZES) == [(32, 32), (32, 32)]
    assert split(3, [32]) == [(32, 3)]


def test_a_block_is_compiled_once_for_each_size_and_gives_the_same() -> None:
    from torch._dynamo.testing import CompileCounter

    spec = EncoderSpec(image_size=56, patch_size=14, width=64, layers=4, heads=2, mlp_width=128)
    network = D3Network(Encoder(spec), DiscrepancyHead(64)).eval()
    order = torch.tensor(draw_permutations(0, 1, spec.patches))
    pixels = torch.randint(0, 256, (2, 56, 56, 3), dtype=torch.uint8)
    counter = CompileCounter()
    compiled = compiled_blocks(network, backend=counter)
    with torch.inference_mode():
        for count in (1, 2, 1):
            wanted = network(pixels[:count], order)
            assert torch.allclose(compiled(pixels[:count], order), wanted, atol=1e-5)
    assert counter.frame_count == 2
