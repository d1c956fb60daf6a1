r"""Expansion of variables and quotes in the words of a Dockerfile.

It looks like a shell's, and is not one. The rules are BuildKit's (package
frontend/dockerfile/shell), described in the Dockerfile reference under "Environment
replacement":

    $V  ${V}                       the value; nothing where V is not set
    ${V-word}   ${V:-word}         `word` where V is unset (with `:`, also where it is empty)
    ${V+word}   ${V:+word}         `word` where V is set   (with `:`, and not empty)
    ${V?text}   ${V:?text}         an error with this text where V is unset (or empty)
    ${V#p} ${V##p} ${V%p} ${V%%p}  the value without the shortest or longest prefix or suffix p
    ${V/p/text} ${V//p/text}       the first, or every, match of p replaced
    'a $V'                         literal to the next single quote
    "a $V"                         variables count; the escape works before " $ and itself
    \x                             the character x itself, whatever it is

In patterns `*` is any text and `?` any character; brackets mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from pylab_container.errors import InvalidInput
from pylab_container.text.globs import Glob, Steps, shell_steps

WHITESPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005"
    "\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""What Docker takes for white space: Unicode's White_Space property (str.isspace() knows four more)."""

_SPECIAL_PARAMETERS = "@*#?-$!"  # POSIX shell, 2.5.2; digits are handled apart
_END = ""
MOST_CHARACTERS = 4 << 20
"""Of values that one instruction may take in: as many as bytes in the largest config of an image."""
_SHOWN = 200  # characters of a word that an error repeats


class Budget(Struct):
    """How many characters of values several words may take in together.

    Values that are made of values double with each line: without a limit a short file fills the memory.
    """

    left: int = MOST_CHARACTERS


def expand(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    unset: set[str] | None = None,
    budget: Budget | None = None,
) -> str:
    """`word` with variables put in and quotes taken away. White space stays as it is.

    escape  the file's escape character, a backslash or a backtick
    unset   receives the names that were used and are not in `variables`
    budget  shared with other words; by default the word has MOST_CHARACTERS alone

    Raises InvalidInput for an open quote, a bad substitution, a failed ${V?}, and where the budget does not suffice.
    """
    return _Lexer(word, variables, escape=escape, unset=unset, budget=budget).run()[0]


def expand_words(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    unset: set[str] | None = None,
    budget: Budget | None = None,
) -> list[str]:
    """As expand(), then split at white space outside quotes: a variable's value may give several words.

    Words that end up empty vanish, also quoted ones.
    """
    return _Lexer(word, variables, escape=escape, unset=unset, budget=budget).run()[1]


def expand_heredoc(content: str, variables: Mapping[str, str], *, unset: set[str] | None = None) -> str:
    """The body of a here-document with variables put in; quotes are plain text there, the escape is a backslash."""
    return _Lexer(content, variables, unset=unset, quotes_count=False).run()[0]


def literal_words(text: str, *, keep_quotes: bool = True, keep_escapes: bool = True) -> list[str]:
    """The words of `text` with its variables untouched, as here-documents are looked for.

    `<<` and the word after it are one word, even with spaces between.

    Raises InvalidInput as expand() does.
    """
    return _Lexer(text, {}, keep_unset=True, keep_quotes=keep_quotes, keep_escapes=keep_escapes).run()[1]


class _Words(Struct):
    """Collects pieces of text into words."""

    done: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Unquoted text: white space ends a word."""
        for character in text:
            if character not in WHITESPACE:
                self.current.append(character)
            elif self.current:
                self.finish()

    def add_quoted(self, text: str) -> None:
        if text:
            self.current.append(text)

    def finish(self) -> list[str]:
        if self.current:
            self.done.append("".join(self.current))
            self.current.clear()
        return self.done


class _Lexer:
    """One pass over one word, by recursive descent: `${V:-…}` holds words again."""

    def __init__(
        self,
        source: str,
        variables: Mapping[str, str],
        *,
        escape: str = "\\",
        unset: set[str] | None = None,
        budget: Budget | None = None,
        quotes_count: bool = True,
        keep_quotes: bool = False,
        keep_escapes: bool = False,
        keep_unset: bool = False,
    ) -> None:
        self.source = source
        self.position = 0
        self.variables = variables
        self.escape = escape
        self.unset = unset if unset is not None else set()
        self.quotes_count = quotes_count
        self.keep_quotes = keep_quotes
        self.keep_escapes = keep_escapes
        self.keep_unset = keep_unset
        self.budget = budget or Budget()

    def run(self) -> tuple[str, list[str]]:
        """The whole source as one text, and as words."""
        try:
            return self._until(_END)
        except RecursionError:
            raise self.error("it is nested too deeply") from None

    def error(self, reason: str, *, hint: str = "") -> InvalidInput:
        shown = self.source if len(self.source) <= _SHOWN else f"{self.source[:_SHOWN]}…"
        return InvalidInput(f'cannot expand "{shown}": {reason}', hint=hint)

    def spend(self, characters: int) -> None:
        """Count characters of values. Raises InvalidInput."""
        self.budget.left -= characters
        if self.budget.left < 0:
            hint = "put fewer or shorter variables in"
            raise self.error(f"the variables have more than {MOST_CHARACTERS} characters together", hint=hint)

    def peek(self) -> str:
        """The next character, _END after the last."""
        return self.source[self.position : self.position + 1]

    def next(self) -> str:
        character = self.peek()
        self.position += 1
        return character

    def until(self, stop: str, *, keep_escapes: bool) -> tuple[str, list[str]]:
        """Text and words up to `stop`, which is consumed."""
        outer, self.keep_escapes = self.keep_escapes, keep_escapes
        try:
            return self._until(stop)
        finally:
            self.keep_escapes = outer

    def _until(self, stop: str) -> tuple[str, list[str]]:
        text: list[str] = []
        words = _Words()
        while character := self.peek():
            if character == stop:
                self.next()
                return "".join(text), words.finish()
            if character == "$":
                piece = self.dollar()
                words.add(piece)
            elif self.quotes_count and character in "'\"<":
                piece = self.quoted(character)
                words.add_quoted(piece)
            elif character == self.escape:
                piece = self.escaped()
                words.add_quoted(piece)
            else:
                piece = self.next()
                words.add(piece)
            text.append(piece)
        if stop:
            raise self.error(f"there is no closing {stop}", hint=f"add the {stop}, or put a {self.escape} before the $")
        return "".join(text), words.finish()

    def escaped(self) -> str:
        """The escape with the character it escapes; at the very end it means nothing."""
        escape, character = self.next(), self.next()
        return escape + character if self.keep_escapes else character

    def quoted(self, opening: str) -> str:
        if opening == "<":
            return self.less_than()
        text = self.single_quoted() if opening == "'" else self.double_quoted()
        return f"{opening}{text}{opening}" if self.keep_quotes else text

    def less_than(self) -> str:
        """`<<` swallows the spaces behind it: `<< EOF` is one word to a here-document."""
        text = self.next()
        if self.peek() != "<":
            return text
        start = self.position
        self.next()
        while (character := self.peek()) and character in WHITESPACE:
            self.next()
        return text + self.source[start : self.position]

    def single_quoted(self) -> str:
        self.next()
        end = self.source.find("'", self.position)
        if end < 0:
            raise self.error("there is no closing single quote", hint=f"a literal quote is written {self.escape}'")
        text = self.source[self.position : end]
        self.position = end + 1
        return text

    def double_quoted(self) -> str:
        self.next()
        text: list[str] = []
        while (character := self.peek()) != '"':
            if character == "$":
                text.append(self.dollar())
            elif character == self.escape:
                text.append(self.escaped_in_double_quotes())
            elif character:
                text.append(self.next())
            else:
                raise self.error("there is no closing double quote", hint=f'a literal quote is written {self.escape}"')
        self.next()
        return "".join(text)

    def escaped_in_double_quotes(self) -> str:
        escape = self.next()
        kept = escape if self.keep_escapes else ""
        following = self.peek()
        if following == _END:
            return kept
        return kept + (self.next() if following in ('"', "$", self.escape) else escape)

    def dollar(self) -> str:
        self.next()
        if self.peek() == "{":
            return self.braced()
        name = self.name()
        if not name:
            return "$"
        value = self.lookup(name)
        if value is None:
            return f"${name}" if self.keep_unset else ""
        return value

    def name(self) -> str:
        """A variable's name: letters, digits and _; or only digits; or one special parameter."""
        first = self.peek()
        if first and first in _SPECIAL_PARAMETERS:
            return self.next()
        only_digits = first.isdecimal()
        start = self.position
        while (c := self.peek()) and (c.isdecimal() or (not only_digits and (c.isalpha() or c == "_"))):
            self.next()
        return self.source[start : self.position]

    def lookup(self, name: str) -> str | None:
        value = self.variables.get(name)
        if value is None:
            self.unset.add(name)
        else:
            self.spend(len(value))
        return value

    def braced(self) -> str:
        self.next()
        if self.peek() in ("{", "}", ":"):
            raise self.error("bad substitution", hint="between ${ and } comes a variable's name")
        name = self.name()
        operator = self.next()
        if operator == "}":
            value = self.lookup(name)
            if value is None:
                return f"${{{name}}}" if self.keep_unset else ""
            return value
        if operator == "/":
            return self.replaced(name)
        colon = operator == ":"
        if colon:
            operator = self.next()
        if not operator:
            raise self.error("there is no closing }", hint="add the }")
        if operator not in "+-?#%":
            raise self.unsupported((":" if colon else "") + operator)
        return self.modified(name, operator, colon=colon)

    def unsupported(self, operator: str) -> InvalidInput:
        return self.error(
            f"${{…}} knows no operator {operator}", hint="the operators are - + ? (also with a colon), # ## % %% and /"
        )

    def modified(self, name: str, operator: str, *, colon: bool) -> str:
        """The part of `${name…}` behind the operator. `colon`: an empty value counts as unset."""
        word, _ = self.until("}", keep_escapes=operator in "#%")
        value = self.lookup(name)
        if value is None and self.keep_unset:
            return f"${{{name}{':' if colon else ''}{operator}{word}}}"
        missing = value is None or (colon and value == "")
        if operator == "-":
            return word if missing else value or ""
        if operator == "+":
            return "" if missing else word
        if operator == "?" and missing:
            state = "unset" if value is None else "empty"
            raise self.error(
                f"{name}: {word or f'is not allowed to be {state}'}", hint=f"give {name} a value with ENV or ARG"
            )
        if operator in "#%":
            return self.trimmed(value or "", operator, word)
        return value or ""

    def trimmed(self, value: str, operator: str, pattern: str) -> str:
        longest = pattern.startswith(operator)
        steps = self.steps(pattern[1:] if longest else pattern)
        if operator == "#":
            return value[_length(Glob(steps).lengths(value), longest=longest) :]
        # What ends in a match begins with one, read backwards.
        return value[: len(value) - _length(Glob(steps[::-1]).lengths(value[::-1]), longest=longest)]

    def replaced(self, name: str) -> str:
        everywhere = self.peek() == "/"
        if everywhere:
            self.next()
        pattern, _ = self.until("/", keep_escapes=True)
        replacement, _ = self.until("}", keep_escapes=True)
        value = self.lookup(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        value = value or ""
        text, done = [], 0
        for start, end in Glob(self.steps(pattern)).spans(value):
            self.spend(len(replacement))
            text += [value[done:start], replacement]
            done = end
            if not everywhere:
                break
        return "".join(text) + value[done:]

    def steps(self, pattern: str) -> Steps:
        """The meaning of a pattern. Raises InvalidInput."""
        try:
            return shell_steps(pattern)
        except InvalidInput as error:
            raise self.error(error.message, hint=error.hint) from None


def _length(lengths: Iterator[int], *, longest: bool) -> int:
    """The length of the shortest or longest match; 0 for none. lengths come in ascending order."""
    if not longest:
        return next(lengths, 0)
    return max(lengths, default=0)
