"""A file within a form (`multipart/form-data`), passed on as it comes: it is never in memory, and never on disk twice."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from steep.spec.errors import InvalidInput

LONGEST_FIELD_BYTES = 4096
MOST_PARTS = 32


class FileForm:
    """The form of an upload: fields, and one file among them.

    Args:
        content_type: header of the request.
        body: of the request, as it comes.

    Raises:
        InvalidInput: it is no such form.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        from python_multipart import MultipartParser
        from python_multipart.multipart import parse_options_header

        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise InvalidInput(
                "the body is no form", where="file", cure="Send multipart/form-data with `file` and `purpose`."
            )
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._body = body
        self._pieces: deque[bytes] = deque()
        self._part = _Part()
        self._num_parts = 0
        self._is_whole = False
        self._parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._part.add_name(data[start:end]),
                "on_header_value": lambda data, start, end: self._part.add_value(data[start:end]),
                "on_header_end": lambda: self._part.end_header(),
                "on_headers_finished": self._know,
                "on_part_data": lambda data, start, end: self._take(data[start:end]),
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    async def find_file(self) -> str:
        """Read on until the file begins. Returns its name.

        Raises:
            InvalidInput: the form has no file, or is cut off.
        """
        while self.filename is None:
            if not await self._read():
                raise InvalidInput("the form has no file", where="file", cure="Send the file in the field `file`.")
        return self.filename

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The file's bytes. What comes after it is read as well.

        Raises:
            InvalidInput: the form is cut off.
        """
        while True:
            while self._pieces:
                yield self._pieces.popleft()
            if not await self._read():
                break
        while self._pieces:
            yield self._pieces.popleft()
        if not self._is_whole:
            raise InvalidInput("the form ends before its end", where="file", cure="Send it again.")

    async def _read(self) -> bool:
        """Take in more of the body; False when there is no more."""
        from python_multipart.exceptions import FormParserError

        async for chunk in self._body:
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise InvalidInput(
                    f"the form is malformed ({error})", where="file", cure="Send it as multipart/form-data."
                ) from error
            return True
        return False

    def _begin(self) -> None:
        self._part = _Part()
        self._num_parts += 1
        if self._num_parts > MOST_PARTS:
            raise InvalidInput(f"the form has more than {MOST_PARTS} fields", where="file")

    def _know(self) -> None:
        self._part.know()
        if self._part.filename is None:
            return
        if self._part.name != "file" or self.filename is not None:
            raise InvalidInput("one file is taken at a time", where="file", cure="Send one, in the field `file`.")
        self.filename = self._part.filename

    def _take(self, data: bytes) -> None:
        if self._part.filename is not None:
            self._pieces.append(data)
        elif len(self._part.text) + len(data) > LONGEST_FIELD_BYTES:
            raise InvalidInput("is too long", where=self._part.name, cure="Send the file in the field `file`.")
        else:
            self._part.text += data

    def _end(self) -> None:
        if self._part.filename is None:
            self.fields[self._part.name] = self._part.text.decode("utf-8", "replace")

    def _finish(self) -> None:
        self._is_whole = True


class _Part:
    """One field of a form, while it is read."""

    def __init__(self) -> None:
        self.name = ""
        self.filename: str | None = None
        self.text = b""
        self._headers: dict[bytes, bytes] = {}
        self._header, self._value = b"", b""

    def add_name(self, data: bytes) -> None:
        self._header += data

    def add_value(self, data: bytes) -> None:
        self._value += data

    def end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def know(self) -> None:
        """All headers have come."""
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self.name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            self.filename = options[b"filename"].decode("utf-8", "replace")
