# /// script
# requires-python = ">=3.10"
# dependencies = ["anthropic-streamkit", "rich"]
#
# [tool.uv.sources]
# anthropic-streamkit = { path = "..", editable = true }
# ///
"""A long reply with headings, code, lists and a table, drawn in the terminal while it arrives. Ctrl-C stops it.

`uv run examples/markdown.py` installs `rich` for this script alone.
"""

import sys

from _connect import connect

from streamkit import collect
from streamkit.rich import MarkdownSink
from streamkit.testing import Reply

QUESTION = "How do I predict the tide with a few lines of Python?"
CANNED = """\
# Predicting the tide

A tide is a sum of waves, each with a **fixed period** that the orbits of moon and sun set. You need two numbers
per wave and harbour, its *amplitude* and its *phase*, and the rest is a `sum` of cosines.

## The largest waves

| name | period (h) | caused by            | at Brest (m) |
|------|-----------:|----------------------|-------------:|
| M2   |      12.42 | the moon             |         2.05 |
| S2   |      12.00 | the sun              |         0.75 |
| N2   |      12.66 | the moon's distance  |         0.42 |
| K1   |      23.93 | the tilt of the axis |         0.06 |

## The program

```python
from dataclasses import dataclass
from math import cos, tau


@dataclass(frozen=True)
class Wave:
    period: float  # hours
    amplitude: float  # metres
    phase: float  # 0 to 1, at hour 0


BREST = [Wave(12.42, 2.05, 0.3), Wave(12.0, 0.75, 0.4), Wave(12.66, 0.42, 0.2)]


def height(hour: float, mean: float = 4.0) -> float:
    \"\"\"Return the height of the water above chart datum, in metres.\"\"\"
    metres = mean
    for wave in BREST:
        turns = hour / wave.period - wave.phase
        metres += wave.amplitude * cos(tau * turns)
    return metres


for hour in range(0, 24, 3):
    metres = height(hour)
    print(f"{hour:2}:00 {metres:5.2f} m {'~' * round(metres * 8)}")
```

## What it leaves out

1. **Weather.** A storm adds a metre, and high pressure takes 20 cm away.
2. **Shallow water**, which bends the waves:
   - in estuaries the flood is shorter than the ebb;
   - harmonics such as M4 appear, with *half* the period.
3. **Your keel.** For navigation, use the tables of the harbour:

> All models are wrong, but some are useful.

Ask me for a fit to measured heights, if you have some: it is ~~hard~~ one call of `numpy.linalg.lstsq`.
"""


def main() -> None:
    with connect(Reply.text(CANNED, delay=0.01)) as client:
        result = collect(
            client,
            sinks=MarkdownSink(),
            on_error="return",
            on_interrupt="return",
            model="claude-sonnet-5-5",
            max_tokens=4000,
            messages=[{"role": "user", "content": " ".join(sys.argv[1:]) or QUESTION}],
        )
    print(f"\n{result.status}, {result.min_output_tokens} output tokens")
    if result.error is not None:
        sys.exit(str(result.error))


if __name__ == "__main__":
    main()
