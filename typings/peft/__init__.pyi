# The annotations of peft do not describe what its functions take and return; to the type checker it is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
