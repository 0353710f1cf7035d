"""What the domain needs to judge an image that stands on the web."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class LinkedImage(NamedTuple):
    """What a link led to, as it came: nobody has looked whether it is an image.

    Attributes:
        name: for people; the last part of the link.
        data: the file's bytes.
    """

    name: str
    data: bytes


class Links(Protocol):
    """Fetches files for strangers, from servers that the whole world may ask and no others."""

    def fetch(self, url: str) -> LinkedImage:
        """Fetch a file whole, within a time and a size.

        Raises:
            LinkInvalid: nothing like this is fetched: no address of a web server, or one with a
                password in it.
            LinkUnavailable: the server is not public, does not answer in time, or has no such file.
            ImageTooLarge: there is more of it than an image may have.
        """
        ...
