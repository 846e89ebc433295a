"""Two processes and one train the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from unigrad.world import World, current_world

sys.path.insert(0, str(Path(__file__).parent / "train"))


def test_one_process_is_the_identity() -> None:
    world = current_world()
    assert world == World(rank=0, size=1)
    values = torch.tensor([1.0, 2.0])
    assert world.sum(values) is values
    assert world.gather(["a", "b"]) == ["a", "b"]
    assert world.share(range(5)) == range(5)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 12])
def test_shares_make_the_whole(size: int, count: int) -> None:
    shares = [World(rank, size).share(range(count)) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


NAMES = ("grpo", "clip_cov", "dpo", "luffy", "ppo", "high_entropy")


def _train(rank: int, folder: str) -> None:
    from test_update import gradient, make_policy, mixture

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    world = current_world()
    assert (world.rank, world.size) == (rank, 2)
    assert world.gather([rank, str(rank)]) == [0, "0", 1, "1"]
    found = {}
    for name in NAMES:
        policy = make_policy()
        rows = mixture(policy, name, entropy_coefficient=0.01)
        grads, report = gradient(policy, rows, 50, world)
        found[name] = grads, (report.loss, report.grad_norm, report.tokens, report.clipped, report.mismatch_max)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_give_the_gradient_of_one(tmp_path: Path) -> None:
    from test_update import gradient, make_policy, mixture

    mp.spawn(_train, (str(tmp_path),), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name in NAMES:
        policy = make_policy()
        grads, report = gradient(policy, mixture(policy, name, entropy_coefficient=0.01), 50)
        for of_rank in ranks:
            for one, two in zip(grads, of_rank[name][0], strict=True):
                torch.testing.assert_close(one, two, rtol=0, atol=1e-13)
            loss, norm, tokens, clipped, mismatch = of_rank[name][1]
            assert (loss, norm) == pytest.approx((report.loss, report.grad_norm), rel=1e-12, abs=1e-13)
            assert (tokens, clipped) == (report.tokens, report.clipped)
            assert mismatch == pytest.approx(report.mismatch_max, rel=1e-12)
