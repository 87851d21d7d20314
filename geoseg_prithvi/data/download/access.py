"""How a server is asked: with a bearer token, with signed addresses, or just so."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable

import requests

from ...errors import NetworkError, WrongCredentialsError


@dataclasses.dataclass(frozen=True)
class Grant:
    """What one request is made with.

    Attributes:
        url: The address, signed if need be.
        token: Bearer token, or ``None``.
    """

    url: str
    token: str | None = None


class Access:
    """Access to public files, and the base of the others. Safe to share between threads."""

    #: What the user can do about a refusal.
    advice = 'its files are not public, choose another --source'

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def grant(self, href: str) -> Grant:
        """Return what to ask for ``href`` with.

        Raises:
            WrongCredentialsError: If there is no login, or it is refused.
            NetworkError: If the login server cannot be reached.
        """
        return Grant(href)

    def renew(self, href: str, refused: Grant) -> bool:
        """Get fresh credentials after a refusal.

        When many threads are refused at once, the first renews for all.

        Args:
            href: The file.
            refused: What the server refused.

        Returns:
            Whether it makes sense to try again.
        """
        with self._lock:
            if self.grant(href) != refused:
                return True
            self._forget()
            return self.grant(href) != refused

    def _forget(self) -> None:
        """Drop what is cached; the next grant is a fresh one."""


class BearerAccess(Access):
    """Access with a bearer token.

    Args:
        fetch: Returns a token that is valid now.
        advice: What the user can do about a refusal.
    """

    def __init__(self, fetch: Callable[[], str], advice: str) -> None:
        super().__init__()
        self._fetch = fetch
        self._token: str | None = None
        self.advice = advice

    def grant(self, href: str) -> Grant:
        """See the base class."""
        with self._lock:
            if self._token is None:
                self._token = self._fetch()
            return Grant(href, self._token)

    def _forget(self) -> None:
        self._token = None


class SigningAccess(Access):
    """Access with signed addresses that expire.

    Args:
        sign: Returns a signed address; may cache.
        forget: Empties that cache.
        advice: What the user can do about a refusal.
    """

    def __init__(self, sign: Callable[[str], str], forget: Callable[[], None], advice: str) -> None:
        super().__init__()
        self._sign = sign
        self._forget_signatures = forget
        self.advice = advice

    def grant(self, href: str) -> Grant:
        """See the base class."""
        with self._lock:
            return Grant(self._sign(href))

    def _forget(self) -> None:
        self._forget_signatures()


def earthdata() -> Access:
    """Access to NASA's archives with ``EARTHDATA_TOKEN`` or the login in ``.netrc``."""
    return BearerAccess(
        _earthdata_token,
        'check EARTHDATA_TOKEN or the line for urs.earthdata.nasa.gov in your .netrc, and that '
        'your Earthdata profile has the application "LP DAAC Data Pool" approved',
    )


def planetary_computer() -> Access:
    """Access to Microsoft's Planetary Computer; needs no account."""
    from planetary_computer import sas

    def sign(href: str) -> str:
        try:
            return sas.sign_url(href)
        except requests.ConnectionError as error:
            raise NetworkError(
                'The signing service of planetarycomputer.microsoft.com cannot be reached; check '
                'the network connection.'
            ) from error
        except requests.RequestException as error:
            raise WrongCredentialsError(
                f'Planetary Computer does not sign addresses ({error}); check '
                'PC_SDK_SUBSCRIPTION_KEY if it is set.'
            ) from error

    return SigningAccess(
        sign,
        sas.TOKEN_CACHE.clear,
        'try again later, and check PC_SDK_SUBSCRIPTION_KEY if it is set',
    )


def _earthdata_token() -> str:
    from earthaccess.auth import Auth
    from earthaccess.exceptions import LoginAttemptFailure, LoginStrategyUnavailable

    names = ('EARTHDATA_TOKEN', 'EARTHDATA_USERNAME')
    strategy = 'environment' if any(os.environ.get(name) for name in names) else 'netrc'
    try:
        token = Auth().login(strategy=strategy).token
    except LoginStrategyUnavailable as error:
        raise WrongCredentialsError(
            f'There is no Earthdata login ({str(error).rstrip(".")}); set EARTHDATA_TOKEN to a '
            'token from https://urs.earthdata.nasa.gov, or write user name and password into '
            '.netrc.'
        ) from error
    except LoginAttemptFailure as error:
        raise WrongCredentialsError(
            'Earthdata refuses the login; check EARTHDATA_USERNAME and EARTHDATA_PASSWORD, or the '
            'line for urs.earthdata.nasa.gov in your .netrc.'
        ) from error
    except requests.RequestException as error:
        raise NetworkError(
            'urs.earthdata.nasa.gov cannot be reached for the login; check the network connection.'
        ) from error
    return token['access_token']
