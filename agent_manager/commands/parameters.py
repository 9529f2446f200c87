"""The parameters of a command, judged by field."""

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from agent_manager.lifecycle.jobs import Job, Refused
from schemas.errors import field_errors

Params = TypeVar("Params", bound=BaseModel)


def read(model: type[Params], job: Job) -> Params | Refused:
    """The parameters of ``job``, or a no that names every wrong field."""
    try:
        return model.model_validate_json(json.dumps(job.command.params))
    except ValidationError as error:
        return refused(error, "params")


def refused(error: ValidationError, where: str) -> Refused:
    """What pydantic says, with paths below ``where``."""
    errors = field_errors(error)
    told = "; ".join(one.told(f"{where}{one.loc.removeprefix('$')}") for one in errors[:3])
    return Refused("invalid", told, {"errors": [one.model_dump(exclude_none=True) for one in errors]})
