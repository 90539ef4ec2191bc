"""The replies of a chat without a key: long and slow enough to stop them, and to reload the page meanwhile."""

from __future__ import annotations

from streamkit.testing import Reply, Server, serve

TOUR = """\
## A short tour

This reply is **canned**: no key is set, so a server on this machine sends it, word by word. Try the following while
it grows:

1. Press *Stop*, or the key `Escape`. What arrived stays.
2. Reload the page. The reply is picked up where it is.
3. Scroll up. The page no longer follows the text, until you go back to the end.

### Markdown

Text can be *italic*, **bold**, `code`, or [a link](https://www.python.org). Code has its own block:

```python
def fibonacci(count: int) -> list[int]:
    numbers = [0, 1]
    while len(numbers) < count:
        numbers.append(numbers[-1] + numbers[-2])
    return numbers[:count]
```

| harbour | high water | tide |
|:--|--:|--:|
| Brest | 04:12 | 6.5 m |
| Calais | 11:47 | 7.2 m |
| Dover | 11:20 | 6.8 m |

> A reply is text from a model. The page builds it from text nodes alone, so that HTML in it stays text:
> <script>alert("not run")</script>

- Lists may have levels:
  - this is the second one,
  - and this as well.
- Links other than of http and https stay text: [like this one](javascript:alert(1)).

### What the line below tells

Each reply ends with a line that tells *how* it ended, and how many tokens it took. Half a reply never looks like a
whole one: send two more messages, and see one that is cut by a limit, and one whose connection breaks.
"""
LIMITED = """\
This reply reaches the limit of tokens. Once upon a time a herring set out for the Gulf of Bothnia. On its way it met a
seal, who"""
BROKEN = """\
This reply breaks off, as the server loses its connection to the API. You can try again, and get the next reply. The
rest of this text never arrives."""


def demo_server() -> Server:
    """Make a server that answers as the API does."""
    return serve(
        Reply.text(TOUR, delay=0.05, usage={"input_tokens": 24}),
        Reply.text(LIMITED, delay=0.05, stop_reason="max_tokens"),
        Reply.text(BROKEN, delay=0.05).reset(after_text="next reply."),
        repeat=True,
    )
