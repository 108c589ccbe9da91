# scipy has no annotations; what a type checker infers from its code is not what it returns.
from typing import Any

def __getattr__(name: str) -> Any: ...
