"""Real providers behind the model port, by one multi-provider library that is loaded when the first is asked."""

from __future__ import annotations

from tenuto.adapters.models.provider.model import ProviderModel
from tenuto.adapters.models.provider.models import ProviderModels

__all__ = ["ProviderModel", "ProviderModels"]
