"""Bodies of server-side apply: the API server reads them as YAML."""

import json
import re
from typing import Any

# JSON writes a character beyond the first 65,536 as two escapes; YAML knows no such pairs.
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)(\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})")


def as_yaml(body: Any) -> str:
    """Return JSON that is YAML too: an emoji stands for itself, control characters are escaped."""
    return _PAIR.sub(lambda found: found[1] + json.loads(f'"{found[2]}"'), json.dumps(body))
