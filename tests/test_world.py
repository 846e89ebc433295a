"""Ranks and one process train the same."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch
from ranks import Ranks

from unigrad.errors import ConfigError
from unigrad.policy import Policy
from unigrad.policy.sharding import sharded, whole_tensor
from unigrad.rollout.engine import EngineError
from unigrad.world import World, current_world, is_of_another_rank, joined, speaks_first

sys.path.insert(0, str(Path(__file__).parent / "train"))

NAMES = ("grpo", "clip_cov", "dpo", "luffy", "ppo", "high_entropy")


def test_one_process_is_the_identity() -> None:
    world = current_world()
    assert world == World(rank=0, size=1)
    values = torch.tensor([1.0, 2.0])
    assert world.sum(values) is values
    assert world.gather(["a", "b"]) == ["a", "b"]
    assert world.share(range(5)) == range(5)
    assert world.balanced("abc", [1, 9, 1]) == ["a", "b", "c"]
    assert world.from_first(lambda: 3) == 3
    assert speaks_first()
    assert speaks_first()
    with joined(lambda: pytest.fail("no device is needed"), 1.0) as alone:
        assert alone == world


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 12])
def test_shares_make_the_whole(size: int, count: int) -> None:
    shares = [World(rank, size).share(range(count)) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("sizes", [[], [3], [100, 1, 1, 1], [1, 1, 1, 100], [5] * 12, [1, 9, 2, 8, 3, 7, 4, 6]])
def test_balanced_shares_make_the_whole_and_differ_by_one_item_at_most(size: int, sizes: list[int]) -> None:
    shares = [World(rank, size).balanced(range(len(sizes)), sizes) for rank in range(size)]
    assert [item for share in shares for item in share] == list(range(len(sizes)))
    for share in shares:
        assert sum(sizes[item] for item in share) <= sum(sizes) / size + max(sizes, default=0)


def _cpu() -> torch.device:
    return torch.device("cpu")


def _policy(shape: str) -> Policy:
    from test_update import make_policy

    policy = make_policy(
        tied=shape != "untied", gradient_checkpointing=shape == "checkpointed", halved=shape == "halved"
    )
    if shape == "lora":
        from unigrad.config import LoraConfig

        policy.add_adapter(LoraConfig(r=2), 0)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return policy


def _gradients(shape: str, names: tuple[str, ...], budget: int, is_sharded: bool, world: World) -> dict[str, object]:
    """Of the update under each algorithm, and what it says of itself."""
    from test_update import gradient, mixture

    found: dict[str, object] = {}
    for name in names:
        policy = _policy(shape)
        rows = mixture(policy, name, entropy_coefficient=0.01)
        if is_sharded:
            policy = sharded(policy, world, cpu_offload=shape == "offloaded")
        grads, report = gradient(policy, rows, budget, world)
        numbers = (report.loss, report.value_loss, report.grad_norm, report.mismatch_max)
        found[name] = [whole_tensor(each) for each in grads], numbers, (report.tokens, report.clipped)
    return found


def _train(folder: Path, shape: str, names: tuple[str, ...], budget: int, is_sharded: bool) -> None:
    with joined(_cpu, 60) as world:
        assert world == current_world()
        mine = [world.rank, str(world.rank)]
        assert world.gather(mine) == [each for rank in range(world.size) for each in (rank, str(rank))]
        assert world.from_first(lambda: world.rank) == 0
        torch.save(_gradients(shape, names, budget, is_sharded, world), folder / f"{world.rank}.pt")


@pytest.mark.parametrize(
    ("size", "is_sharded", "shape", "names", "budget"),
    [
        (2, False, "tied", NAMES, 50),
        (4, False, "tied", ("grpo", "clip_cov", "luffy", "ppo"), 50),
        (2, True, "tied", NAMES, 50),
        # Of 24 trajectories a micro-batch takes one or two: the ranks differ in how many they have.
        (4, True, "tied", ("grpo", "clip_cov", "luffy", "ppo"), 17),
        (2, True, "untied", ("grpo",), 50),
        (2, True, "checkpointed", ("grpo", "ppo"), 50),
        (2, True, "offloaded", ("grpo",), 50),
        (2, True, "halved", ("grpo", "ppo"), 50),
        (2, True, "lora", ("grpo", "dpo", "ppo"), 50),
        (2, False, "lora", ("grpo",), 50),
    ],
)
def test_ranks_give_the_gradient_of_one(
    size: int, is_sharded: bool, shape: str, names: tuple[str, ...], budget: int, tmp_path: Path
) -> None:
    if shape == "lora":
        pytest.importorskip("peft", reason="needs unigrad[peft]")
    with Ranks(size, tmp_path, _train, tmp_path, shape, names, budget, is_sharded) as ranks:
        assert ranks.codes() == [0] * size, ranks.said()
    alone = _gradients(shape, names, 1000, False, World())
    for rank in range(size):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name in names:
            (grads, numbers, counts), (own_grads, own_numbers, own_counts) = found[name], alone[name]
            for one, several in zip(own_grads, grads, strict=True):
                if shape == "halved":
                    assert (several - one).abs().max() <= 0.05 * one.abs().max()
                else:
                    torch.testing.assert_close(several, one, rtol=0, atol=1e-13)
            if shape != "halved":
                assert numbers == pytest.approx(own_numbers, rel=1e-12, abs=1e-13)
                assert counts == own_counts


def _fail_in_turn(folder: Path) -> None:
    with joined(_cpu, 3) as world:
        world.wait()
        if world.rank == 1:
            if speaks_first():
                (folder / "spoken-1").touch()
            raise SystemExit(7)
        start = time.monotonic()
        with pytest.raises(RuntimeError) as raised:
            world.gather([])
        assert is_of_another_rank(raised.value)
        assert time.monotonic() - start < 30
        if speaks_first():
            (folder / f"spoken-{world.rank}").touch()
        raise SystemExit(8)


def _first_that_fails() -> int:
    with joined(_cpu, 60.0) as world:
        for error in (ConfigError("a key"), EngineError("an engine"), FloatingPointError("a number")):

            def fail(error: Exception = error) -> None:
                raise error

            with pytest.raises(type(error), match=str(error)):
                world.from_first(fail)
        assert world.from_first(lambda: world.rank) == 0
    return 9


def test_what_the_first_rank_raises_all_do(tmp_path: Path) -> None:
    with Ranks(2, tmp_path, _first_that_fails) as ranks:
        assert ranks.codes() == [9, 9], ranks.said()


def test_where_a_rank_ends_the_others_end_and_one_of_them_speaks(tmp_path: Path) -> None:
    with Ranks(3, tmp_path, _fail_in_turn, tmp_path) as ranks:
        assert ranks.codes() == [8, 7, 8], ranks.said()
    assert [path.name for path in tmp_path.glob("spoken-*")] == ["spoken-1"]
