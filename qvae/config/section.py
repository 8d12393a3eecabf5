"""What every part of a configuration is: named keys with types and ranges, of which unknown ones are errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors.

    A validator of one key says in its ValueError what the value must be; a validator of a whole section begins with the
    key at fault, so that :func:`~qvae.config.load.load_config` can put the section's path before it.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)
