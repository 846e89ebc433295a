"""The section `algorithm`: a key for every option in `unigrad.options`, and four of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field

from unigrad.config.section import Section, with_options
from unigrad.options import Aggregation, all_options


class AlgorithmKeys(Section):
    """The on-policy algorithm and its options; null is the algorithm's own default (`unigrad algorithms --json`).

    An option that only the method's offline algorithm has goes there.
    """

    model_config = ConfigDict(allow_inf_nan=True)

    name: str | None = None
    """On-policy algorithm, a row of `unigrad algorithms`; null: the method's own"""
    offline_name: str | None = None
    """Off-policy RL on demonstrations that are compared with rollouts (luffy, srft, …); null: the method's own"""
    offline_aggregation: Aggregation | None = None
    """How token losses are averaged on demonstrations; null: the offline algorithm's own"""
    kl_reward_coefficient: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Weight of the KL against the initial model in the reward, token by token; 0: none"""


def algorithm_section() -> type[AlgorithmKeys]:
    """The section `algorithm`, with a key for every option that is known by now. Raises ConfigError on a taken name."""
    return with_options(AlgorithmKeys, "AlgorithmConfig", all_options())


if TYPE_CHECKING:
    AlgorithmConfig = AlgorithmKeys
else:
    AlgorithmConfig = algorithm_section()
