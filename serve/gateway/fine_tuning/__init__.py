"""OpenAI's fine-tuning API: its endpoints, and the one who carries jobs out over Ray's Job API."""

from serve.gateway.fine_tuning.endpoints import FineTuningJobs
from serve.gateway.fine_tuning.runner import Runner

__all__ = ["FineTuningJobs", "Runner"]
