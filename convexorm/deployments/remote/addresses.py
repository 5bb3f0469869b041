"""Where a deployment is: its URL, taken apart once, and the proxy on the way to it.

A key that was pasted into a URL stands in its port, user, query or fragment, or in its path. So what is shown of a URL is
its scheme, host and port, once these are known to be that, and no error repeats any other part of it.
"""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import attrs
import httpx2

from convexorm.errors import DeploymentError

__all__ = ["Address", "trusted"]

_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[^\s!-,/:-@[-^`{-\x7f]+|\[[0-9A-Fa-f:.]+\]")
"""A host: a name (letters, also beyond ASCII, digits, `.`, `-`, `_`), or an IPv6 address."""
_LOCAL = ("localhost", "127.0.0.1", "::1")


@attrs.frozen
class Address:
    """An origin of HTTP, and the path before the API's own."""

    scheme: str
    host: str
    port: int
    authority: bytes
    path: str = attrs.field(repr=False)
    credentials: bytes | None = attrs.field(default=None, repr=False)
    """Of a proxy: what it is told of who asks."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises DeploymentError for what is not the URL of a deployment. It repeats nothing of it."""
        address = _parsed(url)
        if isinstance(address, str):  # raised out here, where no error that repeats the URL is its context
            raise DeploymentError(f"not the URL of a Convex deployment: {address}")
        return address

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority.decode()}"

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    @property
    def local(self) -> bool:
        return self.host in _LOCAL

    def proxy(self) -> Address | None:
        """The proxy that the environment names for this address.

        Raises DeploymentError for one that cannot be used. It repeats nothing of it.
        """
        if self.local or proxy_bypass(f"{self.host}:{self.port}"):
            return None
        proxies = getproxies()
        name = self.scheme if proxies.get(self.scheme) else "all"
        url = proxies.get(name)
        if not url:
            return None
        found = _parsed(url if "://" in url else f"http://{url}", proxy=True)
        if isinstance(found, str):
            raise DeploymentError(f"the environment's {name} proxy cannot be used: {found}")
        return found


def _parsed(url: str, *, proxy: bool = False) -> Address | str:
    """The address, or what is wrong with the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "its host or its port is none"
    userinfo, _, authority = parts.netloc.rpartition("@")
    host = authority if authority.endswith("]") else authority.rpartition(":")[0] or authority
    if parts.scheme not in _PORTS:
        return "its scheme is neither http nor https"
    if not proxy and (userinfo or "@" in parts.netloc or parts.query or parts.fragment or "?" in url or "#" in url):
        return "it holds a user, a password, a ? or a #"
    if not _NAME.fullmatch(host) or port == 0 or any(ord(one) <= 32 for one in url):
        return "its host or its port is none"
    try:
        spelled = httpx2.URL(f"{parts.scheme}://{authority}{parts.path.rstrip('/')}")
    except (httpx2.InvalidURL, UnicodeError):
        return "its host is no name"
    return Address(
        parts.scheme,
        spelled.raw_host.decode(),
        port or _PORTS[parts.scheme],
        spelled.netloc,
        spelled.raw_path.decode().rstrip("/"),
        b"Basic " + b64encode(unquote(userinfo).encode()) if userinfo else None,
    )


def trusted() -> ssl.SSLContext:
    """What says whom to trust over TLS: the machine's certificates, or SSL_CERT_FILE or SSL_CERT_DIR of the environment.

    Raises DeploymentError where there are none.
    """
    try:
        context = httpx2.create_ssl_context()
        context.set_alpn_protocols(["http/1.1"])
    except OSError:  # FileNotFoundError, ssl.SSLError
        context = None
    if context is None:
        raise DeploymentError("the certificates that SSL_CERT_FILE or SSL_CERT_DIR name cannot be read")
    return context
