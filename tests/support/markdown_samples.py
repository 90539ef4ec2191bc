"""Markdown as models write it, and as it is hard to stream. All words are invented."""

from __future__ import annotations

PROSE = """# A short tour of the harbour

The **old harbour** has two quays, *Northgate* and `Southgate`, and a ~~ferry~~ footbridge between them. See the
[timetable](https://harbour.example/times "Times") or <https://harbour.example/map>.

Setext heading
--------------

A line that ends with two spaces\x20\x20
goes on below, and so does one with a backslash\\
like this. &copy; &amp; &#955; are characters.
"""

LISTS = """Before we start:

1. Buy rope, at least *forty* metres, of the kind that floats and does not tangle when it is wet
2. Check the **knots**
   - bowline
   - figure of eight
     1. tie it
     2. pull it
   - clove hitch
3. Pay

   A second paragraph of the third item.

- loose

- items

* another list
+ and one more

8. eight
9. nine
10. ten
11. eleven

After.
"""

CODE = """Run this:

```python
def tides(hours: int) -> list[float]:
    \"\"\"Return the height of the tide, hour by hour.\"\"\"
    return [2.5 + 1.5 * sin(hour / 12.4 * tau) for hour in range(hours)]  # a comment long enough to be wrapped at forty
```

~~~sh
$ tides --hours 24 | head -3
~~~

    indented code

    after a blank line

- in a list

  ```
  no language
  ```

> ```js
> const quay = "north";
> ```
"""

TABLES = """| Boat | Length | Berth |
|:-----|-------:|:-----:|
| *Anna* | 12.5 m | `A1` |
| Bertha, which is a name that takes more room | 7 m | **B2** |
| [Clara](https://boats.example/clara) | 120 m | C |

| a | b |
|---|---|
| only this |
| 1 | 2 | 3 |
| \\| escaped | x |

Text | without a table
"""

QUOTES = """> A quote of several lines
that goes on lazily,
> and ends here.

> > nested
>
> - a list in it
> - and more
>
> # and a heading

***

Text right before a rule
***
- item
- - -
"""

WIDE = """## 港の案内 🛥️

日本語の文章は空白なしで続きますから、端末の幅で折り返されることになりますし、強調も**含みます**。

| 名前 | 長さ |
|---|---|
| アンナ | 12 |
| 👩‍👩‍👧 | 7️⃣ |

- emoji 🎉🎉🎉 and flags 🇳🇴, joined 👩‍🚀, combined e\u0301
- 한국어
"""

LINKS = """[quay]: https://harbour.example/quay "The quay"

Go to the [quay], or to [the quay][quay], or to [nowhere]. A [broken link](http://a b) and an ![image](https://i.example/1.png)
and [an *emphasised* `link`](<https://harbour.example/a b> 'x').

[later]: https://harbour.example/later

Then [later].
"""

TAGS = """<answer>42</answer>

Some <b>bold</b> text, a <br> and a comment <!-- hidden -->.

<thinking>
Hmm, *well*.
</thinking>

<div>

Inside.

</div>
"""

ODD = """####### seven
#no heading
#
# closed #

**not closed, *nor this

`` a ` tick ``

1) one
2) two

-no item
-\x20

+ item

      code in the item

\\*not emphasis\\* __strong__ _emphasis_ snake_case_word 2*3*4

-----
| not | a table

a
===
\tcode by a tab

>\x20
1.\x20
2. second
0. zero

999999999. far
1000000000. too far
"""

UNFINISHED = "Here is the code:\n\n1. First\n\n   ```python\n   for boat in boats:\n       print(boat"

SAMPLES = {
    "prose": PROSE,
    "lists": LISTS,
    "code": CODE,
    "tables": TABLES,
    "quotes": QUOTES,
    "wide": WIDE,
    "links": LINKS,
    "tags": TAGS,
    "odd": ODD,
    "unfinished": UNFINISHED,
    "crlf": "# One\r\n\r\ntwo  \r\nthree\r\n\r\n```\r\ncode\r\n```\r\n- a\r- b\r\r\n\rend",
    "blank lines": "\n\n\n a\n\n\n\n   \nb\n\n\t\n",
    "blank": " \n\n  \n",
    "numbers": "\n\n2. two\n\nIn the end 2\n\n2\n. no item\n\n3",
    "rules": "---\n\n***\n\n_ _ _\n\na\n\n---\n- - -\n\n- a\n\n  ---\n- b",
    "one long word": "x" * 500 + "\n\n" + "- " + "y" * 300 + " **" + "z" * 200 + "**",
    "code without an end": "```\n" + "\n".join(f"line {number}" for number in range(40)),
    "code of blank lines": "```\n\n\n\n\n```\n\nend",
    "long lines of code": "```python\n" + f"x = [{', '.join(map(str, range(200)))}]\n" * 3 + "```\n",
}


def _items(count: int, text: str) -> str:
    return "".join(text.format(number) for number in range(1, count + 1))


TALL = {
    "tall code": "```python\n" + _items(90, "def boat_{0}() -> int:\n    return {0} * 2\n") + "```\n",
    "tall string": '```python\nx = """\n' + _items(90, "boat {0}\n") + '"""\ny = 1\n```\n',
    "tall list": _items(90, "{0}. The boat number {0} is **ready** to leave the `harbour`\n"),
    "tall loose list": _items(40, "- Boat {0}\n\n  It waits for number {0}.\n\n"),
    "tall item": "1. first\n2. second\n\n" + _items(60, "   Paragraph {0} of the item.\n\n") + "3. third\n",
    "tall nested list": "- boats\n" + _items(70, "  - boat {0}\n    1. its *mast* {0}\n"),
    "tall table": "| Boat | Place |\n|---|---|\n" + _items(80, "| number {0} | quay {0} |\n") + "\nEnd.\n",
    "tall paragraph": _items(120, "Boat {0} comes back in the **evening** with the tide. ") + "\n",
    "tall quote": _items(80, "> Line {0} of what was said\n") + "\n",
    "tall quote of paragraphs": _items(60, "> Paragraph {0}.\n>\n") + "\n",
}
SAMPLES |= TALL
LONG = "\n\n".join([PROSE, LISTS, CODE, TABLES, QUOTES, WIDE, LINKS, TAGS, ODD, *TALL.values()]) + "\n"
