r"""Expansion of variables, and removal of quotes, in the words of a Dockerfile.

    $V  ${V}                       the value of V; "" if V is unset
    ${V-word}   ${V:-word}         word if V is unset (with a colon: or empty)
    ${V+word}   ${V:+word}         word if V is set (with a colon: and not empty)
    ${V?text}   ${V:?text}         an error with this text if V is unset (with a colon: or empty)
    ${V#p} ${V##p} ${V%p} ${V%%p}  the value without the shortest or longest prefix or suffix that matches p
    ${V/p/text} ${V//p/text}       the first match of p replaced, or all
    'a $V'                         literal up to the next single quote
    "a $V"                         variables are expanded; the escape works before " $ and itself
    \x                             the character x, whatever it is

In patterns `*` matches any text and `?` any character; brackets are literal.

The syntax resembles that of sh, but it is BuildKit's own: there are no command substitutions, no arithmetic and no
field splitting by IFS. Sources: frontend/dockerfile/shell, lex.go; Dockerfile reference, "Environment replacement".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from pylab_container.errors import InvalidInput
from pylab_container.text.globs import Glob, PatternSteps, shell_steps

WHITESPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005"
    "\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""White space of Go's unicode.IsSpace(). str.isspace() includes four more characters, U+001C to U+001F."""

_SPECIAL_PARAMETERS = "@*#?-$!"  # POSIX, XCU 2.5.2; digits are handled separately
_END = ""
# ENV A=$A$A in each line doubles the value, so that a file of forty lines would fill the memory. The result is stored
# in an image config, whose size is limited anyway: oci/image.py, LONGEST_CONFIG.
MOST_CHARACTERS = 4 << 20
"""Maximum number of characters of values that one instruction may expand."""
_SHOWN = 200  # characters of a word that an error repeats


class Budget(Struct):
    """Remaining number of characters of values that a group of words may expand."""

    left: int = MOST_CHARACTERS


def expand(
    word: str,
    variables: Mapping[str, str],
    *,
    escape: str = "\\",
    unset: set[str] | None = None,
    budget: Budget | None = None,
) -> str:
    """Expand the variables of a word and remove its quotes. White space is kept.

    escape  the file's escape character, a backslash or a backtick
    unset   collects the names that are used but not in `variables`
    budget  limit shared with other words; by default MOST_CHARACTERS for this word

    Raises InvalidInput for an unbalanced quote, a bad substitution, a failed ${V?} and an exhausted budget.
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
    """As expand(), but split at white space outside quotes.

    White space in a variable's value splits too. Empty words are dropped, even quoted ones.
    """
    return _Lexer(word, variables, escape=escape, unset=unset, budget=budget).run()[1]


def expand_heredoc(content: str, variables: Mapping[str, str], *, unset: set[str] | None = None) -> str:
    """Expand the content of a here-document.

    Quotes are plain text there, and the escape is always a backslash.
    """
    # BuildKit ignores the directive `# escape=` here: dockerfile2llb/convert.go, dispatch(), calls shell.NewLex('\\').
    return _Lexer(content, variables, unset=unset, quotes_count=False).run()[0]


def literal_words(text: str, *, keep_quotes: bool = True, keep_escapes: bool = True) -> list[str]:
    """Split text into words without expanding variables, to find here-documents.

    `<<` and the following word are one word, even with spaces between them.

    Raises InvalidInput as expand().
    """
    return _Lexer(text, {}, keep_unset=True, keep_quotes=keep_quotes, keep_escapes=keep_escapes).run()[1]


class _Words(Struct):
    """Splits pieces of text into words."""

    done: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Add unquoted text, in which white space ends a word."""
        for character in text:
            if character not in WHITESPACE:
                self.current.append(character)
            elif self.current:
                self.finish()

    def add_quoted(self, text: str) -> None:
        """Add quoted or escaped text, which never ends a word."""
        if text:
            self.current.append(text)

    def finish(self) -> list[str]:
        # Quoted empty text leaves nothing here, so that `COPY "$EMPTY" a b` has two arguments, as in BuildKit.
        if self.current:
            self.done.append("".join(self.current))
            self.current.clear()
        return self.done


class _Lexer:
    """Recursive-descent parser that expands a word in one pass: `${V:-…}` contains words itself.

    quotes_count  False: quotes are plain text, as in a here-document
    keep_…        leave quotes, escapes or unset variables in the result
    """

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
        """Return the whole source, expanded, as one text and as words. Raises InvalidInput."""
        # The depth of nesting is the user's choice, and a hostile file can exceed the stack.
        try:
            return self._until(_END)
        except RecursionError:
            raise self.error("it is nested too deeply") from None

    def error(self, reason: str, *, hint: str = "") -> InvalidInput:
        shown = self.source if len(self.source) <= _SHOWN else f"{self.source[:_SHOWN]}…"
        return InvalidInput(f'cannot expand "{shown}": {reason}', hint=hint)

    def spend(self, characters: int) -> None:
        """Deduct characters of values from the budget. Raises InvalidInput."""
        self.budget.left -= characters
        if self.budget.left < 0:
            hint = "use fewer or shorter variables"
            raise self.error(f"the variables have more than {MOST_CHARACTERS} characters together", hint=hint)

    def peek(self) -> str:
        """Return the next character without consuming it; _END at the end."""
        return self.source[self.position : self.position + 1]

    def next(self) -> str:
        character = self.peek()
        self.position += 1
        return character

    def until(self, stop: str, *, keep_escapes: bool) -> tuple[str, list[str]]:
        """Parse up to `stop`, and consume it. Returns (text, words)."""
        # A pattern needs its escapes: in ${V#\*} the star is literal. shell_steps() interprets them.
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
            # The value of an unquoted variable is split into words, quoted and escaped text is not.
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
        # The source ended inside ${…}: the recursion was called for a stop that never came.
        if stop:
            raise self.error(f"there is no closing {stop}", hint=f"add the {stop}, or put a {self.escape} before the $")
        return "".join(text), words.finish()

    def escaped(self) -> str:
        """Consume the escape and the character behind it. An escape at the end of the source is dropped."""
        escape, character = self.next(), self.next()
        return escape + character if self.keep_escapes else character

    def quoted(self, opening: str) -> str:
        if opening == "<":  # not a quote, but handled here, since `<<` is one piece of text as well
            return self.less_than()
        text = self.single_quoted() if opening == "'" else self.double_quoted()
        return f"{opening}{text}{opening}" if self.keep_quotes else text

    def less_than(self) -> str:
        """Consume `<<` with the spaces behind it, so that `<< EOF` is one word; or a single `<`."""
        text = self.next()
        if self.peek() != "<":
            return text
        start = self.position
        self.next()
        while (character := self.peek()) and character in WHITESPACE:
            self.next()
        return text + self.source[start : self.position]

    def single_quoted(self) -> str:
        # As in sh, no escape works in single quotes, so the next quote always ends them.
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
        # As in sh (XCU 2.2.3), before any other character the escape is literal: "a\b" keeps it.
        return kept + (self.next() if following in ('"', "$", self.escape) else escape)

    def dollar(self) -> str:
        self.next()
        if self.peek() == "{":
            return self.braced()
        name = self.name()
        if not name:  # a $ before another character, or at the end, is literal
            return "$"
        value = self.lookup(name)
        if value is None:
            return f"${name}" if self.keep_unset else ""
        return value

    def name(self) -> str:
        """Consume a name: letters, digits and _; or digits only; or one special parameter. Returns "" for none."""
        # $1a is the parameter 1 followed by an a, as in sh. Parameters are never set in a build, and so expand to "".
        first = self.peek()
        if first and first in _SPECIAL_PARAMETERS:
            return self.next()
        only_digits = first.isdecimal()
        start = self.position
        while character := self.peek():
            if not (character.isdecimal() or (not only_digits and (character.isalpha() or character == "_"))):
                break
            self.next()
        return self.source[start : self.position]

    def lookup(self, name: str) -> str | None:
        # The caller warns of unset names, which in a Dockerfile are usually misspelt: ${VERSOIN} is silently empty.
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
        # The first characters above would otherwise give an empty name, which sh calls a bad substitution too.
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
        """Parse the part of `${name…}` behind the operator and return the result.

        colon  an empty value counts as unset
        """
        # The word is expanded even if it is not used, so that its errors and unset variables are always reported.
        word, _ = self.until("}", keep_escapes=operator in "#%")
        value = self.lookup(name)
        # literal_words() has no variables, and so keeps the expression as text.
        if value is None and self.keep_unset:
            return f"${{{name}{':' if colon else ''}{operator}{word}}}"
        missing = value is None or (colon and value == "")
        if operator == "-":
            return word if missing else value or ""
        if operator == "+":
            return "" if missing else word
        # The default texts are BuildKit's; those of sh differ from shell to shell (XCU 2.6.2).
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
        # A suffix is a prefix of the reversed text. The pattern is a list of steps, so reversing it is safe.
        return value[: len(value) - _length(Glob(steps[::-1]).lengths(value[::-1]), longest=longest)]

    def replaced(self, name: str) -> str:
        # ${V/p/text} is not in POSIX: BuildKit has it from bash ("Shell Parameter Expansion").
        everywhere = self.peek() == "/"
        if everywhere:
            self.next()
        # The pattern ends at the first slash that is not escaped, so that a path needs \/ for each of its slashes.
        pattern, _ = self.until("/", keep_escapes=True)
        replacement, _ = self.until("}", keep_escapes=True)
        value = self.lookup(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        value = value or ""
        pieces, position = [], 0
        for start, end in Glob(self.steps(pattern)).spans(value):
            self.spend(len(replacement))  # one short pattern can match at each character of a long value
            pieces += [value[position:start], replacement]
            position = end
            if not everywhere:
                break
        return "".join(pieces) + value[position:]

    def steps(self, pattern: str) -> PatternSteps:
        """Parse a pattern. Raises InvalidInput."""
        try:
            return shell_steps(pattern)
        except InvalidInput as error:
            raise self.error(error.message, hint=error.hint) from None


def _length(lengths: Iterator[int], *, longest: bool) -> int:
    """Return the length of the shortest or longest match; 0 for none. lengths: in ascending order."""
    if not longest:
        return next(lengths, 0)
    return max(lengths, default=0)
